"""Publish the serving tables to an Iceberg REST catalog, where Spark, Trino, Snowflake, Polars and pandas read them.

`publish` brings the tables of a generation into the catalog, each in one atomic commit whose snapshot names the
generation. A reader sees a table before or after a commit, never between; after a crash the next run publishes the
missing tables. `contents` reads a generation, `published` reads what the catalog holds, `commit` writes the difference,
`maintenance` deletes old snapshots and files.

Only changed slices are written. A slice is the rows of a table that share a value of its partition column. `commit`
compares the fingerprint of each slice with the one that the last commit recorded in the table. `fct_psd` is partitioned
by `last_seen_on`: a release moves that day for every fact that it shows, so the slice of current facts is written at
each release, and closed facts stay in the slices of earlier releases. `fct_psd_revision` is partitioned by
`released_on`: a release adds one slice. Each other table is one slice.

The catalog rejects a commit when another publisher committed first; then the table is read and compared again. A table
is never set back to an earlier generation, except by a host that has both: that is a rollback.

pyiceberg writes, because DuckDB's Iceberg extension (1.5.5) cannot set snapshot properties, replace partitions without
delete files, or expire snapshots.
"""
