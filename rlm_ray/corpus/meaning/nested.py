"""Nested columns as a table has them, whose members have other names in a file, narrower types, or are not there. Pure."""

from __future__ import annotations

import base64
from typing import Any

import numpy
import pyarrow

#: In the metadata of a member: its name in the file, empty where it is not there; and its value then, packed.
STORED, DEFAULT = b"stored", b"default"


def conformed(array: Any, kind: pyarrow.DataType) -> Any:
    """Return an array as an array of another type, whose members say how they are called in it.

    Examples
    --------
    >>> wide = pyarrow.struct([pyarrow.field("b", pyarrow.int64(), metadata={STORED: b"a"}), pyarrow.field("c", pyarrow.string(),
    ...     metadata={STORED: b"", DEFAULT: packed(pyarrow.array(["x"]))})])
    >>> conformed(pyarrow.array([{"a": 1}, None]), wide).to_pylist()
    [{'b': 1, 'c': 'x'}, None]
    """
    types = pyarrow.types
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_struct(kind):
        members = [_member(array, member) for member in kind]
        fields = [pyarrow.field(member.name, values.type) for member, values in zip(kind, members, strict=True)]
        return pyarrow.StructArray.from_arrays(members, fields=fields, mask=array.is_null())
    if types.is_map(kind):
        keys, items = conformed(array.keys, kind.key_type), conformed(array.items, kind.item_type)
        made = pyarrow.MapArray.from_arrays(_offsets(array), keys, items)
        return _masked(made, array)
    if types.is_list(kind):
        values = conformed(array.values, kind.value_type)
        wide = types.is_large_list(array.type)
        made = (pyarrow.LargeListArray if wide else pyarrow.ListArray).from_arrays(_offsets(array), values)
        return _masked(made, array)
    return array if array.type == kind else array.cast(kind, safe=False)


def packed(array: Any) -> bytes:
    """Return an array of one value as text that a member's metadata can hold."""
    sink = pyarrow.BufferOutputStream()
    batch = pyarrow.record_batch([array], ["default"])
    with pyarrow.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return base64.b64encode(sink.getvalue().to_pybytes())


def _member(array: Any, member: pyarrow.Field) -> Any:
    about = member.metadata or {}
    stored = about.get(STORED, member.name.encode()).decode()
    if stored:
        return conformed(array.field(array.type.get_field_index(stored)), member.type)
    if DEFAULT not in about:
        return pyarrow.nulls(len(array), _plain(member.type))
    [default] = pyarrow.ipc.open_stream(base64.b64decode(about[DEFAULT])).read_all().column(0).chunks
    return default.take(pyarrow.array(numpy.zeros(len(array), numpy.int64)))


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """A type that nulls can have: without what its members say of themselves."""
    return pyarrow.array([None], kind).type


def _offsets(array: Any) -> Any:
    """Where each list begins in the values, also of an array that is cut from another."""
    return pyarrow.array(array.offsets.to_numpy())


def _masked(made: Any, array: Any) -> Any:
    """Null where the first array is null."""
    if not array.null_count:
        return made
    number = numpy.arange(len(array), dtype=numpy.int64)
    return made.take(pyarrow.array(number, mask=array.is_null().to_numpy(zero_copy_only=False)))
