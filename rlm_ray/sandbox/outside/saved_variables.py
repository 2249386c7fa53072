"""Root code's variables as the parent keeps them, and which of them a new child could not take back."""

from __future__ import annotations

from rlm_ray.sandbox.outside import store
from rlm_ray.sandbox.wire.channel import Header

#: Variables that may end the process while they are restored, before all of them are given up.
MAX_BAD_VARIABLES = 5


class SavedVariables:
    """The last good snapshot: opaque bytes by name.

    Parameters
    ----------
    packed : bytes, optional
        What `packed` of another one returned.

    Attributes
    ----------
    lost : list of str
        Variables of the last cell that could not be kept.
    """

    def __init__(self, packed: bytes | None = None) -> None:
        self._variables = store.unpack(packed) if packed else {}
        self.lost: list[str] = []
        self._bad: set[str] = set()
        self._at: str | None = None
        self._failed = 0

    def __bool__(self) -> bool:
        return bool(self._variables)

    @property
    def packed(self) -> bytes:
        """All of it as one opaque value."""
        return store.pack(self._variables)

    @property
    def names(self) -> list[str]:
        """What is kept, by name."""
        return sorted(self._variables)

    def missing(self) -> list[str]:
        """What the last cell had and a new child has not."""
        return sorted({*self.lost, *self._bad})

    def without(self, names: list[str]) -> list[str]:
        """Return those of `names` that are not kept."""
        return [name for name in names if name not in self._variables]

    def take(self, header: Header, blob: bytes) -> None:
        """Take the snapshot after a cell.

        Raises
        ------
        ProtocolError
            It is malformed, or passes a bound.
        """
        self._variables = store.merge(self._variables, header, blob)
        self.lost = store.names(header.get("lost"))

    def frame(self) -> tuple[Header, bytes]:
        """Return the command that gives everything to a new child."""
        self._at = None
        names = [[name, len(data)] for name, data in self._variables.items()]
        return {"t": "restore", "names": names}, b"".join(self._variables.values())

    def restoring(self, header: Header) -> None:
        """The child is about to load a variable."""
        name = header.get("name")
        self._at = name if isinstance(name, str) else None

    def restored(self, header: Header) -> None:
        """The child has loaded what it could."""
        self._failed = 0
        for name in store.names(header.get("lost")):
            self._give_up(name)

    def failed(self) -> None:
        """The child ended while it restored. Once may be bad luck; then the variable it was at is left out, in the end all."""
        self._failed += 1
        if self._failed == 1:
            return
        if self._at in self._variables and len(self._bad) < MAX_BAD_VARIABLES:
            self._give_up(self._at)
        else:
            self._bad |= set(self._variables)
            self._variables = {}

    def _give_up(self, name: str) -> None:
        self._bad.add(name)
        self._variables.pop(name, None)
