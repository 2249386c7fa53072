"""What this process holds open: the S3 file system, and the memory of `memory://`. fsspec and s3fs are imported here alone."""

from __future__ import annotations

from typing import Any

from rlm_ray.storage import s3


def _connect() -> Any:
    import s3fs

    filesystem = s3fs.S3FileSystem(
        default_cache_type="none",
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 64,
            # some stores send the checksum of a whole object with a range of it; a range is bound to its object's version
            "response_checksum_validation": "when_required",
            # and some do not know the trailing checksums of uploads
            "request_checksum_calculation": "when_required",
            # these are for what s3fs does not ask again: 500 and the like
            "retries": {"max_attempts": 5, "mode": "standard"},
        },
    )
    filesystem.retries = 8  # SlowDown and resets, with growing pauses
    return filesystem


#: S3 as this process sees it; connects at the first request.
S3 = s3.Store(_connect)
#: Buckets that were seen to keep the condition of a write, and those that were seen not to.
KEEPING: set[str] = set()
IGNORING: set[str] = set()


def forget_connections() -> None:
    """Close what is open to S3. The next request reads the `AWS_*` environment anew."""
    S3.forget()
    KEEPING.clear()
    IGNORING.clear()


def memory() -> Any:
    """Return the objects of `memory://`: an fsspec file system whose `store` maps paths to files."""
    import fsspec

    return fsspec.filesystem("memory")


def memory_path(uri: str) -> str:
    """Return an object's path in that store."""
    return "/" + uri.split("://", 1)[1].strip("/")
