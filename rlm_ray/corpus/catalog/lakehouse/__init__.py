"""Delta and Iceberg tables, in one version each: their logs are read once, when a corpus is opened.

Imports the catalog and `storage`. A table becomes a manifest of Parquet shards, so workers need no table library.
"""
