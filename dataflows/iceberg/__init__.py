"""The serving tables in an Iceberg REST catalog, so that Spark, Trino, Snowflake, Polars or pandas read them.

A generation is published table by table, each in one atomic commit whose snapshot says which generation it is:
a reader sees a table as it was or as it is, never between, and a publisher killed anywhere leaves the rest to the
next one. `contents` says what a generation holds, `state` what the catalog has, `change` what differs, `commit`
makes it so, `maintenance` lets go of what nobody needs.

**Only what changed is written.** A table is compared slice by slice: a fingerprint that DuckDB computes over the
rows of each slice, against those that the last commit recorded. `fct_psd` is sliced, and partitioned, by
`last_seen_on`: a release moves that day for every fact it shows, so what is current is one slice and always
rewritten, while what is closed lies in the slices of earlier releases and stays: one more release costs the size of
a snapshot, whatever the history. `fct_psd_revision` is sliced by `released_on`: a release adds one. The other tables
are small, and one slice each.

**Never backwards.** A commit is refused by the catalog when somebody else committed first; then the table is looked
at again. What is there may be replaced by a generation made later, or by an earlier one if this host has the later
one too and serves the earlier: it was rolled back here on purpose. Anything else is somebody else's newer work.

**Why pyiceberg writes.** DuckDB's extension can neither put properties into a snapshot, nor replace partitions in
one commit (it deletes with delete files), nor expire snapshots. What is heavy DuckDB does all the same: it encodes
and compresses each slice into a Parquet file on disk, in bounded memory; pyiceberg uploads and commits.
"""
