"""Readers of Parquet: rows by polars or by Arrow, row groups, and texts stored as dictionary codes."""
