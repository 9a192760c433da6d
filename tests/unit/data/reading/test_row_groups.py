"""A row group that is larger than memory is no damaged one."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

LOAD_WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from sharedlayers_dist.data import index_dataset
from sharedlayers_dist.data.reading.row_groups import RowGroupLoader
from sharedlayers_dist.errors import UserError
from tests.unit.data.samples import codecs_for

index = index_dataset(sys.argv[1])
loader = RowGroupLoader(index, codecs_for(index), on_bad_row="skip")
loader.load(0)
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use, in_use))
try:
    loader.load(1)
except UserError as error:
    sys.exit(str(error))
"""


def test_want_of_memory_is_an_error_though_bad_rows_are_skipped(tmp_path):
    def make(num_rows: int, length: int) -> pa.Table:
        texts = pa.array(["x" * length] * num_rows)
        return pa.table(
            {"a": texts, "b": ["y"] * num_rows, "label": pa.array([1] * num_rows, pa.int8())}
        )

    file = tmp_path / "pairs" / "one.parquet"
    file.parent.mkdir()
    with pq.ParquetWriter(file, make(1, 1).schema) as writer:
        writer.write_table(make(5, 3))
        writer.write_table(make(20_000, 50_000))  # A gigabyte, and a few kilobytes in the file.
    ended = subprocess.run(
        [sys.executable, "-c", LOAD_WITH_LITTLE_MEMORY, file.parent],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "one.parquet, row group 1, with 20000 rows" in ended.stderr
    assert ended.stderr.startswith("A row group must fit into memory.")
