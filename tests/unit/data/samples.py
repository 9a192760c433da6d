"""Small pair datasets for the tests of reading."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sharedlayers_dist.data import OrderOptions, PairCodecs, PairReader, PairReading, TextCodec
from sharedlayers_dist.data.items.choosing import choose_plain_codec
from sharedlayers_dist.data.schema import METADATA_KEY, PairMetadata, pair_schema

READER_OPTIONS = ("batches_ahead", "rows_at_once", "read_limit_seconds")
READING_OPTIONS = ("on_bad_row", "requires_label", "cache")


def codecs_for(sides, alphabet=""):
    """Texts as 280 ids, all else as the columns say."""
    text = TextCodec(length=280, alphabet_size=256, alphabet=alphabet)
    a, b = (text if x.kind == "text" else choose_plain_codec(x) for x in (sides.a, sides.b))
    return PairCodecs(a, b)


def open_pairs(index, *, alphabet, world, **options):
    """A reader of `index`; options of the reader and the reading are theirs, others the order's."""
    of_reader = {name: options.pop(name) for name in READER_OPTIONS if name in options}
    of_reading = {name: options.pop(name) for name in READING_OPTIONS if name in options}
    reading = PairReading(
        index=index,
        codecs=codecs_for(index, alphabet),
        options=OrderOptions(**options),
        **of_reading,
    )
    return PairReader(reading, world, **of_reader)


def text_table(num_rows, *, first=0, alphabet=None, run_length=1):
    """Pairs whose texts name their row, so that each row of a batch can be recognised."""
    rows = range(first, first + num_rows)
    metadata = PairMetadata(kind="text", alphabet=alphabet, run_length=run_length)
    schema = pair_schema(pa.string(), metadata)
    columns = [
        [f"a{row}" for row in rows],
        [f"b{row}" for row in rows],
        [row % 2 for row in rows],
        [f"g{row % 3}" for row in rows],
        [f"g{row % 5}" for row in rows],
    ]
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )


def image_table(num_rows, *, first=0, shape=(3, 2, 1)):
    """Pairs of images filled with the number of their row; `b` holds the next number."""
    item = pa.fixed_shape_tensor(pa.uint8(), shape)
    rows = range(first, first + num_rows)
    images = [
        pa.array([[(row + shift) % 256] * math.prod(shape) for row in rows], item)
        for shift in (0, 1)
    ]
    label = pa.array([row % 2 for row in rows], pa.int8())
    none = pa.nulls(num_rows, pa.string())
    schema = pair_schema(item, PairMetadata(kind="image"))
    return pa.table([*images, label, none, none], schema=schema)


def write_dataset(folder: Path, row_counts, make=text_table, **options):
    """Writes one file for each list of row counts of its row groups; rows are numbered through."""
    first = 0
    for number, groups in enumerate(row_counts):
        file = folder / f"part-{number:05}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(file, make(0, **options).schema) as writer:
            for count in groups:
                # An empty row group can only be written on its own.
                writer.write_table(
                    make(count, first=first, **options), row_group_size=max(1, count)
                )
                first += count
    return str(folder)


def with_column(table, name, values, type=None):
    """The table with the column `name` replaced or added, its nullability dropped."""
    array = values if isinstance(values, pa.Array) else pa.array(values, type)
    columns = {n: table[n] for n in table.column_names} | {name: array}
    metadata = {METADATA_KEY: table.schema.metadata[METADATA_KEY]}
    return pa.table(columns).replace_schema_metadata(metadata)
