"""What a dataset's footers say: its files, row groups and columns, as plain values.

Rank zero makes the index and the others are told, so that they agree and the footers of a large
dataset are fetched once.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.files import find_files, warn_of_columns_in_folders
from sharedlayers_dist.data.footers import (
    check_agreement,
    check_columns,
    describe_columns,
    find_only_label,
    has_label,
    read_footer,
)
from sharedlayers_dist.data.items.column import ItemColumn, describe_kinds
from sharedlayers_dist.data.schema import SET_NAMES, PairMetadata
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.bounded_reads import ReadPool, wait_for_read
from sharedlayers_dist.storage.uri import hide_secrets, subfolder

_FOOTER_THREADS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedFile:
    """One file of a dataset."""

    path: str
    """Path on the dataset's filesystem."""
    name: str
    """Path relative to the dataset's folder."""
    size: int
    """Bytes."""
    row_counts: tuple[int, ...]
    """Rows of each row group."""


class RowPlace(NamedTuple):
    """Where a row of a dataset lies, for people: in which file, row group, and row of that."""

    file: str
    row_group: int
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row group {self.row_group}, row {self.row}"


@dataclass(frozen=True, kw_only=True)
class DatasetIndex:
    """A pair dataset's files and columns. Picklable; `to_json` and `from_json` are exact."""

    uri: str
    files: tuple[IndexedFile, ...]
    """In the dataset's fixed order: sorted by name."""
    a: ItemColumn
    """The items of the one side."""
    b: ItemColumn
    """The items of the other side, which may be of another kind."""
    has_weight: bool
    has_groups: bool
    """Whether both `group_a` and `group_b` are there."""
    metadata: PairMetadata | None
    """What the files say about themselves; None where another program wrote them."""
    has_label: bool = True
    """Whether `label` is there; always, unless the index was made without asking for it."""
    only_label: int | None = None
    """The label of all pairs, where the footers say that they have one alone; None where they have
    both, or the footers do not say."""

    @property
    def kind(self) -> str:
        """What the pairs are of, in a word or two."""
        return describe_kinds(self)

    @cached_property
    def row_counts(self) -> NDArray[np.int64]:
        """Rows of each row group of all files, in the dataset's order, shape `(row groups,)`."""
        return np.array([count for file in self.files for count in file.row_counts], np.int64)

    @cached_property
    def row_starts(self) -> NDArray[np.int64]:
        """Rows before each row group, and in all, shape `(row groups + 1,)`."""
        return np.concatenate([[0], np.cumsum(self.row_counts)])

    @cached_property
    def group_starts(self) -> NDArray[np.int64]:
        """Row groups before each file, and in all, shape `(files + 1,)`."""
        return np.concatenate([[0], np.cumsum([len(file.row_counts) for file in self.files])])

    @property
    def num_rows(self) -> int:
        """Pairs of the dataset."""
        return int(self.row_starts[-1])

    @property
    def run_length(self) -> int:
        """Rows that stay together when the dataset is shuffled; 1 if its files do not say."""
        return self.metadata.run_length if self.metadata else 1

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files' names, sizes and row counts: another order means another one."""
        digest = hashlib.sha256(b"" if self.run_length == 1 else b"%d" % self.run_length)
        for file in self.files:
            digest.update(repr((file.name, file.size, file.row_counts)).encode())
        return digest.hexdigest()[:16]

    @property
    def parts(self) -> tuple[DatasetIndex, ...]:
        """This dataset as a mixture of one."""
        return (self,)

    def part_of_group(self, row_group: int) -> tuple[int, int]:
        """A row group's dataset, and its index in it, as a mixture of one has them."""
        return 0, row_group

    def file_of_group(self, row_group: int) -> tuple[IndexedFile, int]:
        """The file that holds a row group of the dataset, and the row group's index within it."""
        file = int(np.searchsorted(self.group_starts, row_group, side="right")) - 1
        return self.files[file], row_group - int(self.group_starts[file])

    def place_of_group(self, row_group: int) -> str:
        """Where row group `row_group` of the dataset lies, for people."""
        file, group_of_file = self.file_of_group(row_group)
        return f"{file.path}, row group {group_of_file}"

    def place_of_row(self, row: int) -> RowPlace:
        """Where row `row` of the dataset lies."""
        group = int(np.searchsorted(self.row_starts, row, side="right")) - 1
        file, group_of_file = self.file_of_group(group)
        return RowPlace(file.path, group_of_file, row - int(self.row_starts[group]))

    def to_json(self) -> dict[str, Any]:
        """The index as values that JSON has."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DatasetIndex:
        """The index that `to_json` gave, also after a way through JSON."""
        files = tuple(
            IndexedFile(**{**file, "row_counts": tuple(file["row_counts"])})
            for file in values["files"]
        )
        metadata = values["metadata"]
        return cls(
            **{
                **values,
                "files": files,
                **{side: _column_from_json(values[side]) for side in "ab"},
                "metadata": PairMetadata(**metadata) if metadata is not None else None,
            }
        )


def _column_from_json(values: dict[str, Any]) -> ItemColumn:
    return ItemColumn(**{**values, "shape": tuple(values["shape"])})


# Long because of its documentation with an example.
def index_dataset(uri: str, *, requires_label: bool = True) -> DatasetIndex:
    """Reads the footers of a pair dataset, many at a time, and nothing else of it.

    Args:
        uri: A folder, also of folders, or one file: a path or any URI that pyarrow knows.
        requires_label: False takes datasets without a column `label`, or with one that holds no
            labels, in all files or in some: the index then says so, and readers give NaN for each
            label. Weights, groups and what training reads of the metadata do not matter then, and
            the index has no weights and no groups.

    Raises:
        UserError: in one line that names the file: a missing or empty dataset, a file that is no
            whole Parquet file, a missing column, a column of the wrong type, files that differ.
        StorageError: where the storage fails.
        ReadTimeoutError: for a footer that does not come.

    Example:
        >>> import os
        >>> import pyarrow as pa
        >>> import pyarrow.parquet as pq
        >>> os.mkdir("indexed")
        >>> pairs = pa.table({"a": ["one", "two"], "b": ["one more", "three"], "label": [1, 0]})
        >>> pq.write_table(pairs, "indexed/part-0.parquet")
        >>> index = index_dataset("indexed")
        >>> str(index.a), index.num_rows, [file.name for file in index.files]
        ('text', 2, ['part-0.parquet'])
    """
    filesystem, found = find_files(uri)
    sets = [name for name in SET_NAMES if any(f.name.startswith(f"{name}/") for f in found)]
    if len(sets) > 1:
        raise UserError(
            f"A dataset is one set of pairs. Received: {hide_secrets(uri)}, which holds the sets "
            f"{', '.join(sets)}. Name one of them: {hide_secrets(subfolder(uri, sets[0]))}."
        )
    with ReadPool(min(_FOOTER_THREADS, len(found)), name="sharedlayers-footers") as pool:
        reads = [pool.submit(read_footer, filesystem, file) for file in found]
        footers = [
            wait_for_read(read, what=f"the footer of {file.path}")
            for file, read in zip(found, reads, strict=True)
        ]
    # Of a file without rows the columns do not matter: some programs give them no type.
    filled = [(f.path, footer) for f, footer in zip(found, footers, strict=True) if footer.num_rows]
    if not filled:
        raise UserError(
            f"A dataset needs at least one pair. Received: {hide_secrets(uri)}, which has 0 rows."
        )
    first_name, first = filled[0]
    for name, footer in filled:
        check_columns(name, footer, requires_label=requires_label)
        check_agreement(first_name, first, name, footer, requires_label=requires_label)
    warn_of_columns_in_folders(found, ("weight", "group_a", "group_b"), first.schema.names)
    return DatasetIndex(
        uri=uri,
        files=tuple(
            IndexedFile(
                path=file.path, name=file.name, size=file.size, row_counts=footer.row_counts
            )
            for file, footer in zip(found, footers, strict=True)
        ),
        **describe_columns(first.schema, requires_label=requires_label),
        has_label=all(has_label(footer.schema) for _, footer in filled),
        only_label=find_only_label(footer for _, footer in filled),
        metadata=first.metadata,
    )
