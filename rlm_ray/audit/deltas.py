"""Findings as a Delta table: a partition a run, which the same run replaces."""

from __future__ import annotations

from typing import Any

from rlm_ray import storage
from rlm_ray.errors import MissingExtra, StorageError

#: Times that a write begins anew because another writer was there first.
ATTEMPTS = 8


def require() -> None:
    """Check that Delta tables can be written, before anything is spent.

    Raises
    ------
    MissingExtra
        The extra `tables` is not installed.
    """
    try:
        import deltalake  # noqa: F401
    except ImportError:
        raise MissingExtra("Writing findings as a Delta table", "tables") from None


def write(folder: str, run: str, rows: Any) -> str:
    """Write a run's findings into a Delta table, which is made where there is none; returns the table's URI.

    Parameters
    ----------
    folder : str
    run : str
        The run's id: the column `run`, by which the table is partitioned.
    rows : pyarrow.Table
        Columns that the table does not have are added to it.

    Raises
    ------
    StorageError
        The table cannot be written, or has a column of another type.
    """
    require()
    import deltalake
    import pyarrow
    from deltalake.exceptions import CommitFailedError, DeltaError

    place = storage.normal(folder)
    if storage.is_local(place):
        storage.make_dirs(place)
    options = storage.table_options(place)
    table = rows.append_column("run", pyarrow.array([run] * len(rows), pyarrow.string()))
    for attempt in range(ATTEMPTS):
        try:
            deltalake.write_deltalake(
                place,
                table,
                mode="overwrite",
                partition_by=["run"],
                predicate=f"run = '{run}'",
                schema_mode="merge",
                storage_options=options,
            )
        except CommitFailedError as error:
            if attempt + 1 == ATTEMPTS:
                raise StorageError(f"{place} is written by others all the time: {_reason(error)}. Run it again.") from None
        except (DeltaError, OSError, ValueError) as error:
            raise StorageError(f"{place} cannot be written as a Delta table: {_reason(error)}. Check the place.") from None
        else:
            return place
    raise AssertionError("the loop returns or raises")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
