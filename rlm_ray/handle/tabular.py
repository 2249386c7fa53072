"""A handle as tables of other libraries: Arrow, polars, pandas, DuckDB, Parquet files, a Delta table.

The backend does the work: root code's process imports this file, and no library that reads. So the types of other libraries
stand in the docstrings alone.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

else:
    Protocol = object


class Table(Protocol):
    """The records of a plan as Arrow batches, and what is made of them; see `rlm_ray.worker.record_table.RecordTable`."""

    def reader(self, address: bool) -> Any:
        """Return a reader of the batches, in the order of the records; it reads as it is read."""

    def write_parquet(self, uri: str, address: bool, file_bytes: int) -> list[str]:
        """Write files into a folder; return their names."""

    def write_delta(self, uri: str, address: bool, mode: str) -> str:
        """Write a Delta table; return its place."""

    def to_polars(self, address: bool) -> Any:
        """Return a DataFrame of polars."""

    def to_pandas(self, address: bool) -> Any:
        """Return a DataFrame of pandas."""

    def to_duckdb(self, connection: Any, address: bool) -> Any:
        """Return a relation of DuckDB."""


class Tabular:
    """What a `Corpus` turns into outside the sandbox.

    Values keep their types: timestamps are timestamps, decimals decimals, whole numbers whole. Nested columns, UUIDs and
    intervals are texts, as in `sql`. The last column, `_address`, says where each record is. A shard that cannot be read is
    left out with an `UnreadShard` warning, as by every other verb. Every method reads the data once; none calls a model.
    """

    __slots__ = ()

    def to_batches(self, address: bool = True) -> Iterator[Any]:
        """Yield the records as `pyarrow.RecordBatch` of some megabytes, in order. Holds a few batches at a time.

        Parameters
        ----------
        address : bool
            Add the column `_address`.
        """
        return iter(self._table().reader(address))

    def to_arrow(self, address: bool = True) -> Any:
        r"""Return the records as a `pyarrow.Table`, whole in memory.

        Examples
        --------
        >>> import tempfile, pathlib, rlm_ray
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "app.log").write_text("started\nstopped\n")
        >>> rlm_ray.open(str(folder)).to_arrow(address=False).to_pydict()
        {'text': ['started', 'stopped']}
        """
        return self._table().reader(address).read_all()

    def to_polars(self, address: bool = True) -> Any:
        """Return the records as a `polars.DataFrame`, whole in memory."""
        return self._table().to_polars(address)

    def to_pandas(self, address: bool = True) -> Any:
        """Return the records as a `pandas.DataFrame` with Arrow's types, whole in memory.

        Raises
        ------
        MissingExtra
            pandas is not installed.
        """
        return self._table().to_pandas(address)

    def to_duckdb(self, connection: Any = None, address: bool = True) -> Any:
        """Return the records as a `duckdb.DuckDBPyRelation`, whole in memory, on `connection` or on DuckDB's own."""
        return self._table().to_duckdb(connection, address)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Hand the records to another library batch by batch (Arrow's PyCapsule interface)."""
        return self._table().reader(True).__arrow_c_stream__(requested_schema)

    def write_parquet(self, uri: str, address: bool = True, file_bytes: int = 64 << 20) -> list[str]:
        """Write the records as Parquet files `part-00000.parquet`, … into an empty folder, local or on object storage.

        Parameters
        ----------
        uri : str
            The folder.
        address : bool
            Add the column `_address`.
        file_bytes : int
            About the uncompressed size of a file, which is held in memory while it is written.

        Returns
        -------
        list of str
            The files.

        Raises
        ------
        InputError
            The folder has objects already.
        """
        return self._table().write_parquet(uri, address, file_bytes)

    def write_delta(self, uri: str, address: bool = True, mode: str = "error") -> str:
        """Write the records as one version of a Delta table, batch by batch; needs the extra `tables`.

        Parameters
        ----------
        uri : str
            The table's folder.
        address : bool
            Add the column `_address`.
        mode : {"error", "append", "overwrite"}
            What to do where there is a table.

        Returns
        -------
        str
            The table's place.
        """
        return self._table().write_delta(uri, address, mode)

    def _table(self) -> Table:
        raise NotImplementedError  # a `Corpus` asks its backend
