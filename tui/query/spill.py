"""Stores a query's rows on disk: one thread appends, the screen reads windows of rows.

Every record batch becomes one small, self-contained Arrow stream (LZ4), and a list of offsets finds the batch
of any row in microseconds. Ten million rows of five columns take 160 MB of disk, and of memory only the few
batches that are on the screen. The file has no name, so nothing is left behind however the console ends.
"""

import bisect
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import DiskSpaceError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 2048
"""Rows per batch; small enough that reading one does not block the screen."""
_KEPT_BATCHES = 16
_FREE_BYTES_LEFT = 256 << 20
"""Free space that a result never uses."""
_SPACE_CHECK_BYTES = 16 << 20


class Spill:
    """The rows of one result. One thread appends; any thread reads what has been appended."""

    def __init__(self, directory: Path, schema: "pa.Schema", size_limit_bytes: int) -> None:
        """Create an empty spill in `directory` (created if missing) with at most `size_limit_bytes`."""
        import pyarrow as pa

        directory.mkdir(parents=True, exist_ok=True)
        self.schema = schema
        self._directory = directory
        self._size_limit_bytes = size_limit_bytes
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (closed by close)
        self._options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._lock = threading.Lock()
        self._users = 1
        self._ends: list[int] = []  # cumulative row count after each batch
        self._offsets: list[int] = [0]
        self._checked_bytes = -_SPACE_CHECK_BYTES
        self._recent: OrderedDict[int, pa.RecordBatch] = OrderedDict()

    @property
    def row_count(self) -> int:
        """Rows appended so far."""
        return self._ends[-1] if self._ends else 0

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return self._offsets[-1]

    def append(self, batch: "pa.RecordBatch") -> None:
        """Add rows at the end; raises DiskSpaceError at the size limit, or before the disk is full."""
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema, options=self._options) as stream:
            stream.write_batch(batch)
        buffer = memoryview(sink.getvalue())
        self._require_space(len(buffer))
        offset = self._offsets[-1]
        while buffer:
            written = os.pwrite(self._file.fileno(), buffer, offset)
            offset, buffer = offset + written, buffer[written:]
        self._offsets.append(offset)
        self._ends.append(self.row_count + batch.num_rows)  # last, because this makes the rows readable

    def batch_of(self, row: int) -> "tuple[pa.RecordBatch, int]":
        """Return the batch that contains `row`, and its first row's number; raises IndexError past the end."""
        number = bisect.bisect_right(self._ends, row)
        if row < 0 or number >= len(self._ends):
            raise IndexError(f"row {row} of {self.row_count}")
        return self._batch(number), self._ends[number - 1] if number else 0

    def batches(self) -> "Iterator[pa.RecordBatch]":
        """Yield every batch appended so far, bypassing the cache."""
        for number in range(len(self._ends)):
            yield self._read(number)

    def keep(self) -> "Spill":
        """Add a reference before the last `close`; every `keep` needs its own `close`."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Drop a reference; the last one frees the disk space."""
        with self._lock:
            self._users -= 1
            if self._users <= 0:
                self._recent.clear()
                self._file.close()

    def _batch(self, number: int) -> "pa.RecordBatch":
        with self._lock:
            batch = self._recent.pop(number, None) or self._read(number)
            self._recent[number] = batch
            if len(self._recent) > _KEPT_BATCHES:
                self._recent.popitem(last=False)
            return batch

    def _read(self, number: int) -> "pa.RecordBatch":
        import pyarrow as pa

        start, end = self._offsets[number], self._offsets[number + 1]
        data = os.pread(self._file.fileno(), end - start, start)
        return pa.ipc.open_stream(data).read_next_batch()

    def _require_space(self, more_bytes: int) -> None:
        size_bytes = self.size_bytes + more_bytes
        if size_bytes > self._size_limit_bytes:
            raise DiskSpaceError(
                f"the result takes more than {self._size_limit_bytes >> 20} MiB of disk; "
                "narrow the query, or raise its limits with m"
            )
        if size_bytes - self._checked_bytes >= _SPACE_CHECK_BYTES:
            self._checked_bytes = size_bytes
            if shutil.disk_usage(self._directory).free < _FREE_BYTES_LEFT:
                raise DiskSpaceError(
                    f"{self._directory} has less than {_FREE_BYTES_LEFT >> 20} MiB free; free disk space"
                )
