"""How a table's columns, and the members of nested ones, are found in a file: by number, by a name of its own, or by name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow

from rlm_ray.corpus.catalog.footers import Footer
from rlm_ray.corpus.meaning.nested import DEFAULT, STORED
from rlm_ray.corpus.meaning.types import shown_name

FIELD_ID = b"PARQUET:field_id"


def field_id(column: pyarrow.Field) -> int | None:
    """Return the number by which a column is known whatever it is called; None where it has none."""
    number = (column.metadata or {}).get(FIELD_ID)
    return None if number is None else int(number)


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds columns in files.

    Attributes
    ----------
    mapping : dict of int to tuple of str
        The names that columns have in files without numbers, by their numbers; empty where the table does not say it.
    by_number : bool
        Whether the numbers in files count. Else the mapping alone does.
    """

    mapping: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    by_number: bool = True

    def is_numbered(self, footer: Footer, schema: Iterable[pyarrow.Field]) -> bool:
        """Whether columns are found by their numbers, or by the names that the table has for them."""
        has = (footer.ids and self.by_number) or self.mapping
        return bool(has) and all(field_id(column) is not None for column in schema)

    def columns(self, footer: Footer, schema: pyarrow.Schema) -> dict[str, tuple[str, str]]:
        """Return type and name in the file of the table's columns, by the names that are shown."""
        if not self.is_numbered(footer, schema):
            return footer.columns
        by_name = {stored: (kind, stored) for kind, stored in footer.columns.values()}
        found = {}
        for column in schema:
            number = field_id(column) or 0
            if footer.ids and self.by_number:
                stored = footer.ids.get(number)
            else:
                stored = next((name for name in self.mapping.get(number, ()) if name in by_name), None)
            if stored is not None:
                found[shown_name(column.name)] = by_name[stored]
        return found

    def nested(self, footer: Footer, schema: pyarrow.Schema) -> dict[str, pyarrow.DataType]:
        """Return the types that nested columns are brought to, with what each member is called in the file.

        Raises
        ------
        ValueError
            A column is of another kind in the file; says which.
        """
        stored = self.columns(footer, schema)
        found = {}
        for column in schema:
            name = shown_name(column.name)
            there = footer.nested.get(stored[name][1]) if name in stored else None
            if there is None or not pyarrow.types.is_nested(column.type):
                continue
            numbered = self.is_numbered(footer, schema)
            kind = self._planned(column.type, there, name, numbered, bool(footer.ids) and self.by_number)
            if not _is_same(kind, there):
                found[name] = kind
        return found

    def _planned(self, kind: pyarrow.DataType, there: pyarrow.DataType, name: str, numbered: bool, ids: bool) -> pyarrow.DataType:
        types = pyarrow.types

        def inner(of: pyarrow.DataType, stored: pyarrow.DataType, part: str) -> pyarrow.DataType:
            return self._planned(of, stored, f"{name}.{part}", numbered, ids)

        if types.is_struct(kind) and types.is_struct(there):
            members = []
            for member in kind:
                found = self._member(member, there, numbered, ids)
                if found is None:
                    default = (member.metadata or {}).get(DEFAULT)
                    about = {STORED: b""} | ({DEFAULT: default} if default is not None else {})
                    members.append(pyarrow.field(member.name, member.type, metadata=about))
                else:
                    planned = inner(member.type, found.type, member.name)
                    members.append(pyarrow.field(member.name, planned, metadata={STORED: found.name.encode()}))
            return pyarrow.struct(members)
        if types.is_map(kind) and types.is_map(there):
            key = inner(kind.key_type, there.key_type, "key")
            return pyarrow.map_(key, inner(kind.item_type, there.item_type, "value"))
        if _is_list(kind) and _is_list(there):
            return pyarrow.list_(pyarrow.field("element", inner(kind.value_type, there.value_type, "element")))
        if types.is_nested(kind) or types.is_nested(there):
            raise ValueError(f"its column {name!r} is {there}, the table's is {kind}")
        return kind

    def _member(self, member: pyarrow.Field, there: pyarrow.StructType, numbered: bool, ids: bool) -> pyarrow.Field | None:
        number = field_id(member)
        if numbered and number is not None:
            if ids:
                return next((item for item in there if field_id(item) == number), None)
            names = self.mapping.get(number, ())
            return next((item for name in names for item in there if item.name == name), None)
        return next((item for item in there if item.name == member.name), None)


def _is_list(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)


def _is_same(kind: pyarrow.DataType, there: pyarrow.DataType) -> bool:
    """Whether a file has exactly what is planned; how times, texts and bytes are held makes no difference."""
    types = pyarrow.types
    if types.is_struct(kind):
        same = [member.name for member in kind] == [(member.metadata or {})[STORED].decode() for member in kind]
        names = [member.name for member in kind] == [member.name for member in there]
        return same and names and all(_is_same(one.type, other.type) for one, other in zip(kind, there, strict=True))
    if types.is_map(kind):
        return _is_same(kind.key_type, there.key_type) and _is_same(kind.item_type, there.item_type)
    if _is_list(kind):
        return _is_same(kind.value_type, there.value_type)
    alike = (types.is_timestamp, types.is_time, _is_bytes, types.is_dictionary)
    return bool(kind == there or any(test(kind) and test(there) for test in alike)) or types.is_dictionary(there)


def _is_bytes(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_string_view)
    return any(test(kind) for test in tests)
