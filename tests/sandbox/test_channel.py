from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.errors import ProtocolError
from rlm_ray.sandbox.wire.channel import MAX_BLOB, MAX_HEADER, PREFIX, FrameReader, clean, dumps, encode, header_of, parse_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.tuples(st.dictionaries(st.text(), JSON, max_size=3), st.binary(max_size=200)), max_size=6), st.data())
def test_frames_come_back_whole_however_the_stream_is_cut(frames, data):
    stream = b"".join(encode(header, blob) for header, blob in frames)
    reader, got = FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, max(1, min(len(stream), 40))))
        reader.feed(stream[:size])
        stream = stream[size:]
        while (frame := reader.take()) is not None:
            got.append((header_of(frame.header), frame.blob))
    assert got == frames


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_any_bytes_give_frames_or_a_protocol_error(pieces):
    reader = FrameReader()
    try:
        for piece in pieces:
            reader.feed(piece)
            while (frame := reader.take()) is not None:
                assert isinstance(header_of(frame.header), dict)
    except ProtocolError:
        return


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_parsing_gives_json_that_can_be_written_again_or_a_protocol_error(data):
    try:
        value = parse_json(data)
    except ProtocolError:
        return
    dumps(value).decode("utf-8")


@given(
    st.text(alphabet=st.characters(), max_size=200) | st.text(alphabet="\ud800\udfff\x00\x1b\u202ea\n", max_size=50),
    st.integers(0, 100),
)
def test_cleaned_text_is_short_valid_and_without_control_characters(text, limit):
    shown = clean(text, limit)
    assert len(shown) <= limit
    shown.encode("utf-8")
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in shown)
    assert not set(shown) & set("\x7f\x9b\u202e\u2066\u200b")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"\xff",
        b'"\xed\xa0\x80"',
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"-1E+400",
        b"9" * 5_000,
        b"[" * 100 + b"]" * 100,
        b"[" * 1_000_000,
        b'{"a":' * 200 + b"1" + b"}" * 200,
    ],
)
def test_what_is_not_plain_json_is_refused(data):
    with pytest.raises(ProtocolError):
        parse_json(data)


def test_a_number_with_a_large_negative_exponent_is_fine():
    assert parse_json(b'{"a": [1e-400, "1e999", 1e200]}') == {"a": [0.0, "1e999", 1e200]}


def test_lone_surrogates_are_replaced_in_keys_and_values():
    assert parse_json(b'{"\\udc00a": ["\\ud83d\\ude00", "\\uD800"]}') == {"?a": ["😀", "?"]}


@pytest.mark.parametrize("prefix", [(MAX_HEADER + 1, 0, 0), (10, MAX_BLOB + 1, 0), (1, 1, 2), (1, 1, 255)])
def test_a_frame_out_of_bounds_is_refused_by_its_prefix(prefix):
    reader = FrameReader()
    reader.feed(PREFIX.pack(*prefix))
    with pytest.raises(ProtocolError):
        reader.take()


def test_a_header_must_be_an_object():
    with pytest.raises(ProtocolError, match="list"):
        header_of(b"[1]")


def test_what_is_too_large_is_not_sent():
    with pytest.raises(ValueError, match="send less at once"):
        encode({"a": "x" * (MAX_HEADER + 1)})
