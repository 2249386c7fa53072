"""Facts about a corpus that need no record: shards, manifests, footers, types, addresses.

Imports `storage`, `handle` and `errors`; nothing of planning, reading or operations.
"""
