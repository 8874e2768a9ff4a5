"""The serving tables in an Iceberg REST catalog, so that Spark, Trino, Snowflake, Polars or pandas read them.

A generation is published table by table, each in one atomic commit whose snapshot says which generation it is:
a reader sees a table as it was or as it is, never between, and a publisher killed anywhere leaves the rest to the
next one. `contents` reads a generation, `state` the catalog, `change` computes the difference, `commit` writes it,
`maintenance` deletes unneeded snapshots and files.

**Only what changed is written.** A table is compared slice by slice: a fingerprint that DuckDB computes over the
rows of each slice, against those that the last commit recorded. `fct_psd` is sliced, and partitioned, by
`last_seen_on`: a release moves that day for every fact it shows, so what is current is one slice and always
rewritten, while what is closed lies in the slices of earlier releases and stays: one more release costs the size of
a snapshot, whatever the history. `fct_psd_revision` is sliced by `released_on`: a release adds one. The other tables
are small, and one slice each.

**Never backwards.** The catalog rejects a commit when another publisher committed first; then the table is read
again. A later generation may replace it, or an earlier one if this host has the later one too and serves the earlier:
a deliberate rollback. Anything else is newer work of another host and stays.

**Why pyiceberg writes.** DuckDB's extension can neither put properties into a snapshot, nor replace partitions in
one commit (it deletes with delete files), nor expire snapshots. What is heavy DuckDB does all the same: it encodes
and compresses each slice into a Parquet file on disk, in bounded memory; pyiceberg uploads and commits.
"""
