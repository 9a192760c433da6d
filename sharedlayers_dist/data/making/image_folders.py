"""Images in folders, one for each group, as Keras and torchvision know them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pyarrow import fs

from sharedlayers_dist.data.damage import DamageError, OnBadRow, OpenFile, read_file
from sharedlayers_dist.data.files import FoundFile, is_marker, list_files
from sharedlayers_dist.data.items.codec import BadItems
from sharedlayers_dist.data.items.image_files import ImageFileCodec
from sharedlayers_dist.data.making.parquet_files import BYTES_PER_BATCH, ItemBatch
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import storage_error
from sharedlayers_dist.storage.uri import hide_secrets, open_filesystem

ENDINGS = (".png", ".jpg", ".jpeg")
_FILES_PER_BATCH = 4096
_NUM_NAMED = 3
_SETS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Names of folders that hold folders of groups, and are none themselves."""
_READING_THREADS = 16
"""Each waits for the storage most of the time."""


class ImageFolderItems:
    """The files `FOLDER/GROUP/IMAGE.png`, also .jpg and .jpeg, in the order of their names.

    An item is the bytes of its file, and its group the first folder below `FOLDER`, however deep
    the file lies. A folder without a file makes no group. Names that begin with a dot or an
    underscore are passed over, files and folders alike.

    Args:
        folder: a local path or a URI that pyarrow knows.
        on_bad_row: stop at a file that lies in no group, has another ending or is no whole PNG or
            JPEG image, or leave it out and count it as a row.

    Raises:
        UserError: where there is no such folder, or no image in a folder in it; where its folders
            are sets, such as train and val, with the groups' folders in them.
        StorageError: where the storage fails.

    Example:
        >>> import os
        >>> from PIL import Image
        >>> for name in ("cats/1.png", "dogs/1.png", "dogs/2.png"):
        ...     os.makedirs(os.path.dirname(f"images/{name}"), exist_ok=True)
        ...     Image.new("RGB", (3, 2), "white").save(f"images/{name}")
        >>> [batch.groups.to_pylist() for batch in ImageFolderItems("images").iter_batches()]
        [['cats', 'dogs', 'dogs']]
    """

    item_type = pa.binary()
    """Arrow type of the items."""

    def __init__(self, folder: str, *, on_bad_row: OnBadRow = "error"):
        self._skip = on_bad_row == "skip"
        self._filesystem, found, is_folder = list_files(
            folder, endings=ENDINGS, what="folder of image folders"
        )
        if not is_folder or all(_reason_against(file) for file in found):
            raise UserError(
                "Where no columns are named, `items` must be a folder of image folders, with files "
                f"GROUP/IMAGE{ENDINGS[0]} (or {', '.join(ENDINGS[1:])}). Received: items="
                f"{hide_secrets(folder)!r}, which has none. Of files of data, name the columns "
                "with --item and --group."
            )
        groups = {file.name.split("/")[0] for file in found if not _reason_against(file)}
        if groups <= _SETS and all(file.name.count("/") > 1 for file in found if "/" in file.name):
            raise UserError(
                "A folder of image folders is one set of items. Received: items="
                f"{hide_secrets(folder)!r}, which holds the sets {', '.join(sorted(groups))} with "
                "folders in them. Name one of these, and let --validation-share and --test-share "
                "make the others."
            )
        self._files = sorted(found, key=lambda file: file.name)
        self._warn_of_empty_folders(folder)
        self._left_out: frozenset[str] | None = None
        """Names of the files that are no images; None until all have been looked at."""
        self.num_bad_rows = 0
        """Files that the last complete pass left out."""

    def iter_batches(self) -> Iterator[ItemBatch]:
        """Goes through the files, about 64 MB of them at a time.

        Raises:
            UserError: for a file that is no image, unless such files are skipped; names it.
            StorageError: where the storage fails.
        """
        left_out: set[str] = set(self._left_out or ())
        files_to_read = [file for file in self._files if file.name not in left_out]
        with ThreadPoolExecutor(_READING_THREADS, "sharedlayers-files") as pool:
            for files in _cut(files_to_read):
                contents, bad = self._read(files, pool)
                for place in sorted(bad):
                    self._reject(files[place], bad[place])
                left_out |= {files[place].name for place in bad}
                is_good = pa.array([place not in bad for place in range(len(files))], pa.bool_())
                groups = [file.name.split("/")[0] for n, file in enumerate(files) if n not in bad]
                yield ItemBatch(contents.filter(is_good), pa.array(groups, pa.string()))
        self._left_out = frozenset(left_out)
        self.num_bad_rows = len(left_out)

    def _warn_of_empty_folders(self, folder: str) -> None:
        """Says which folders make no group; stores have none that are empty."""
        _, base = open_filesystem(folder)
        groups = {file.name.split("/")[0] for file in self._files}
        try:
            inside = self._filesystem.get_file_info(fs.FileSelector(base))
        except (pa.ArrowException, OSError) as error:
            raise storage_error(error, f"{hide_secrets(folder)} cannot be listed") from error
        empty = sorted(
            info.base_name
            for info in inside
            if info.type == fs.FileType.Directory
            and info.base_name not in groups
            and not is_marker(info.base_name)
        )
        if empty:
            more = ", ..." if len(empty) > _NUM_NAMED else ""
            warnings.warn(
                f"No groups in {hide_secrets(folder)} are the folders without a file, "
                f"{len(empty):,} in number: {', '.join(empty[:_NUM_NAMED])}{more}.",
                stacklevel=3,
            )

    def _read(
        self, files: Sequence[FoundFile], pool: ThreadPoolExecutor
    ) -> tuple[pa.Array, BadItems]:
        """The bytes of files, and which of them are no images, and why."""
        read = list(pool.map(self._read_one, files))
        contents = pa.array([content for content, _ in read], pa.binary())
        bad: BadItems = {}
        if self._left_out is None:  # Decoding takes longest, and once is enough.
            codec = ImageFileCodec(shape=())
            bad = codec.find_bad(codec.read(pa.chunked_array([contents])), thoroughly=True)
        return contents, bad | {n: reason for n, (_, reason) in enumerate(read) if reason}

    def _read_one(self, file: FoundFile) -> tuple[bytes | None, str]:
        """The bytes of a file; or None, and what is wrong with it."""
        reason = _reason_against(file)
        if reason:
            return None, reason
        try:
            return read_file(self._filesystem, file.path, _read_all, place=file.path), ""
        except DamageError as error:
            return None, f"cannot be read: {error}"

    def _reject(self, file: FoundFile, reason: str) -> None:
        if not self._skip:
            raise UserError(
                f"{file.path} {reason}. Remove the file, or leave such files out with "
                "--on-bad-row skip."
            )


def _reason_against(file: FoundFile) -> str:
    """Why a file's name is not that of a group's image; empty where it is."""
    try:
        file.name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if "/" not in file.name:
        return "lies in no folder, whose name would be its group"
    if not file.name.lower().endswith(ENDINGS):
        return f"is no image: it does not end in {', '.join(ENDINGS)}"
    return ""


def _cut(files: Sequence[FoundFile]) -> Iterator[list[FoundFile]]:
    """The files, as many at a time as have about 64 MB together."""
    batch: list[FoundFile] = []
    num_bytes = 0
    for file in files:
        if batch and (len(batch) == _FILES_PER_BATCH or num_bytes + file.size > BYTES_PER_BATCH):
            yield batch
            batch, num_bytes = [], 0
        batch.append(file)
        num_bytes += file.size
    if batch:
        yield batch


def _read_all(open_file: OpenFile) -> bytes:
    with open_file() as file:
        return bytes(file.read())
