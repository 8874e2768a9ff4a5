"""The served generations: immutable database files, one symlink, and a reader that notices swaps.

**Why generations and a symlink.** A pipeline must never make a reader wait, and a reader must never see
half a pipeline. So every export builds a new file, `serving-<number>.duckdb`, which is never written
after it is published. `serving.duckdb` is a symlink to the served one; publishing, and rolling back, replace
that symlink in one atomic step (`dataflows.serving.store`). A reader that has the old file open keeps reading
it.

**Why not simply replace the file.** DuckDB keeps one instance per path and process. After `rename(new,
serving.duckdb)` a thread that reopens `serving.duckdb` still gets the *old* data for as long as any other
thread of that process holds it: "reopen when the inode changes" returns stale data without an error. With its own
path, a generation cannot be confused with another.

**The reader.** `ServingReader` compares the served file's identity (device, inode, modification time, size)
at the start of every query, which costs two microseconds. As long as it holds a file open, no other file
can take its inode, so every swap is detected. A new identity is attached, read-only, to a fresh in-memory
DuckDB; queries that are running finish on their own generation, which is closed when the last of them ends.
So every query that starts after `publish` returned sees the new generation, whole, and every answer names
the generation it came from. A plain file that somebody replaces by `rename` is read in the same way, and as
safely.

    with ServingReader(Path("data/serving.duckdb")) as reader:
        answer = reader.query("SELECT * FROM serving.psd_asof(?)", [date(2025, 6, 30)])
        answer.table, answer.generation.number

**Other readers.** Anything that speaks DuckDB can open `serving.duckdb` read-only: it gets the generation
that is served at that moment, with the same names (`serving.fct_psd`, `serving.psd_asof(day)`); a program
that attaches it under another name must run `USE` first, for the macros. A long-lived program should resolve the
symlink (`realpath`) each time it opens, and reopen to see a newer generation.

**When one machine isn't enough.** A generation is an immutable object: any host can fetch it, check its
sha256 against the sidecar and publish it beside itself (issue "R2"). When many writers, or tables larger
than a host, are wanted, the same tables go to a DuckLake: its catalog (a small database) plays the part of
the symlink, its snapshots that of the generations (`AT (VERSION => n)` is the rollback), its Parquet files
on object storage that of the database files. Only two places change: the export's copy step, which writes
to the attached lake, and `open_read_only`, which attaches the lake at a snapshot where it now attaches a
file.
"""

from dataflows.serving.generation import Generation
from dataflows.serving.reader import Answer, ServingReader

__all__ = ["Answer", "Generation", "ServingReader"]
