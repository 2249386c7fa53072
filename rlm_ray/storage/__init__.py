"""The one seam to storage: corpus, ledger and reports list, read and write through it.

A URI is a local path (relative, absolute, `~`, `file://`), `s3://bucket/key`, `gs://bucket/key`, `az://container/key`,
`abfss://container@account.dfs.core.windows.net/key`, `hf://datasets/owner/name/path`, `https://host/path` or `memory://name` (this
process only). Keys and endpoints come from each cloud's own environment, as s3fs, gcsfs and adlfs read it. They are imported in
this room and nowhere else, when they are needed.

A **version** tells two contents of one object apart: an ETag on S3, Azure and the web, a generation on Google, size and
modification time of a local file, a digest in memory.

>>> from rlm_ray import storage
>>> storage.write_bytes("memory://notes/today.txt", b"all well")
True
>>> storage.read_range("memory://notes/today.txt", 0, 3)
b'all'
"""

from rlm_ray.storage.archives.places import stored_object
from rlm_ray.storage.connections import forget_connections
from rlm_ray.storage.listings import check_version, current_version, exists, listing, stat
from rlm_ray.storage.names import ObjectInfo, is_local, is_remote, join, literal, normal, scheme, shown
from rlm_ray.storage.reading import (
    find_bytes,
    open_input,
    open_stream,
    polars_reads,
    polars_source,
    read_bytes,
    read_range,
    read_small,
    table_options,
)
from rlm_ray.storage.writing import delete_tree, make_dirs, write_bytes

__all__ = [
    "ObjectInfo",
    "check_version",
    "current_version",
    "delete_tree",
    "exists",
    "find_bytes",
    "forget_connections",
    "is_local",
    "is_remote",
    "join",
    "listing",
    "literal",
    "make_dirs",
    "normal",
    "open_input",
    "open_stream",
    "polars_reads",
    "polars_source",
    "read_bytes",
    "read_range",
    "read_small",
    "scheme",
    "shown",
    "stat",
    "stored_object",
    "table_options",
    "write_bytes",
]
