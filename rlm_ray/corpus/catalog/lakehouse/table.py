"""What a table's log says of one version of it: columns, files, and which rows of them are no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow

from rlm_ray.corpus.catalog.lakehouse.columns import Finder


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a table.

    Attributes
    ----------
    uri : str
    values : dict of str to value
        What the log says of columns that are the same in the whole file, as all verbs show values.
    deleted : array or None
        Numbers of rows that are deleted, in order and each once.
    """

    uri: str
    values: dict[str, Any] = field(default_factory=dict)
    deleted: Any = None


@dataclass(frozen=True, slots=True)
class Table:
    """One version of a table.

    Attributes
    ----------
    kind : str
        As people call it.
    version : int
    shown : str
        The version in words.
    schema : pyarrow.Schema
        Its columns, those of the partitions among them; with field ids where the files' columns are found by them.
    files : list of DataFile
    root : str or None
        A prefix below which most of the files are.
    finder : Finder
        How its columns are found in files.
    defaults : dict of str to value
        What columns have in files that were written before them, as all verbs show it; null where it is not here.
    """

    kind: str
    version: int
    shown: str
    schema: pyarrow.Schema
    files: list[DataFile]
    root: str | None = None
    finder: Finder = field(default_factory=Finder)
    defaults: dict[str, Any] = field(default_factory=dict)
