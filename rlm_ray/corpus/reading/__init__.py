"""Turns a shard's bytes into batches of records with their places: one reader per format.

`text`, `parquet` and `documents` hold the readers; `scan` runs a plan's nodes over one shard. Imports planning, the catalog
and `storage`; nothing of operations.
"""
