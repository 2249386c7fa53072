"""Where a record is: object, version and position, as one short string.

::

    s3://logs/day=1/part-0.parquet@5d41402a#row=17
    s3://logs/app.log@9f2c11aa#bytes=1048576-1048699
    s3://contracts/a.txt@77aa01bc#bytes=0-58211&column=text&chars=1200-1380

Rows are counted in the file; bytes are those of the uncompressed text. `chars` are a span: a character range of
one column's value. Addresses are compared and hashed as strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from rlm_ray.errors import InputError

_ADDRESS = re.compile(
    r"(?P<object>.+)@(?P<version>[^@#]*)#(?P<unit>row|bytes)=(?P<start>\d+)(?:-(?P<stop>\d+))?"
    r"(?:&column=(?P<column>[^&]*)&chars=(?P<first>\d+)-(?P<last>\d+))?",
    re.DOTALL,  # a name may hold a line end
)


@dataclass(frozen=True, slots=True)
class Address:
    """One record's place.

    Attributes
    ----------
    object : str
        URI of the object.
    version : str
        Its version when the corpus was opened (an etag, or size and time of a local file).
    unit : {"row", "bytes"}
        What `start` and `stop` count; `stop` is exclusive.
    column, chars : str and (int, int), optional
        For a span: the column and its character range.

    Examples
    --------
    >>> address = Address.parse("s3://lake/a.log@9f2c#bytes=10-20")
    >>> address.object, address.start, address.stop
    ('s3://lake/a.log', 10, 20)
    >>> str(address)
    's3://lake/a.log@9f2c#bytes=10-20'
    """

    object: str
    version: str
    unit: str
    start: int
    stop: int
    column: str | None = None
    chars: tuple[int, int] | None = None

    def __str__(self) -> str:
        place = f"row={self.start}" if self.unit == "row" else f"bytes={self.start}-{self.stop}"
        span = (
            f"&column={quote(self.column, safe='')}&chars={self.chars[0]}-{self.chars[1]}"
            if self.column is not None and self.chars
            else ""
        )
        return f"{self.object}@{self.version}#{place}{span}"

    @property
    def whole(self) -> Address:
        """The address of the record that this one is a span of, or is."""
        return replace(self, column=None, chars=None)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address back from its string.

        Raises
        ------
        InputError
            The text is no address.
        """
        match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"{text!r:.200} is no address. Take the '_address' of a record.")
        start = int(match["start"])
        stop = int(match["stop"]) if match["stop"] is not None else start + 1
        if match["column"] is None:
            return cls(match["object"], match["version"], match["unit"], start, stop)
        chars = (int(match["first"]), int(match["last"]))
        return cls(match["object"], match["version"], match["unit"], start, stop, unquote(match["column"]), chars)
