"""The conversation with a root model: append-only until it passes the limit, then old outputs are folded to a line."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlm_ray.text import counted

Message = dict[str, str]

#: Bytes of the words that say what was cut.
NOTICE_BYTES = 100
#: What is shown of the newest message, however little room a long prompt leaves.
LEAST_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the root's conversation.

    Attributes
    ----------
    role : {"assistant", "user"}
    text : str
        The full text.
    fold : str
        One line that stands for it when room is short; empty where it is never folded.
    folded : bool
    part : str
        The part shown of a text that is too long; empty if the whole text fits.
    """

    role: str
    text: str
    fold: str = ""
    folded: bool = False
    part: str = ""

    @property
    def shown(self) -> str:
        """The text as the root sees it now."""
        return self.fold if self.folded else self.part or self.text


@dataclass(frozen=True, slots=True)
class History:
    """The conversation with a root model: a system prompt, the task, and turns.

    Folding goes down to `low` of the limit at once, so that the prefix that endpoints cache changes rarely.
    """

    system: str
    task: str
    entries: tuple[Entry, ...] = ()
    limit_tokens: int = 48_000
    bytes_per_token: float = 4.0
    low: float = 0.6

    def tokens(self) -> int:
        """Return the estimated tokens of the messages."""
        return round(sum(_bytes(message["content"]) for message in self.messages()) / self.bytes_per_token)

    def messages(self) -> list[Message]:
        """Return the messages as an endpoint takes them."""
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": self.task},
            *({"role": entry.role, "content": entry.shown} for entry in self.entries),
        ]

    def add(self, *entries: Entry) -> History:
        """Return the history with more messages, and old ones folded where the limit is passed."""
        history = replace(self, entries=(*self.entries, *entries))
        if history.tokens() <= self.limit_tokens:
            return history
        return history._folded(keep=len(entries))

    def shortened(self) -> History | None:
        """Return the history within a smaller limit, for an endpoint that finds it too long; None where nothing can be folded."""
        size = self.tokens()
        history = replace(self, limit_tokens=int(min(self.limit_tokens, size) * self.low))
        history = history._folded(keep=1) if self.entries else history
        return history if history.tokens() < size else None

    def _folded(self, keep: int) -> History:
        entries = list(self.entries)
        size = self.tokens() * self.bytes_per_token
        target = self.limit_tokens * self.low * self.bytes_per_token
        # oldest first; the last replies and outputs stay whole as long as they fit
        for protected in (keep + 2, keep):
            for index in range(len(entries) - protected):
                if size <= target:
                    break
                entry = entries[index]
                if entry.fold and not entry.folded:
                    size -= _bytes(entry.shown) - _bytes(entry.fold)
                    entries[index] = replace(entry, folded=True)
            if size <= self.limit_tokens * self.bytes_per_token:
                break
        else:
            # the newest alone is too much for what the prompt leaves: the root still has to see most of it
            newest = entries[-1]
            room = self.limit_tokens * self.bytes_per_token - (size - _bytes(newest.shown)) - NOTICE_BYTES
            limit = max(LEAST_CHARS, int(room * len(newest.text) / max(1, _bytes(newest.text))))
            entries[-1] = replace(newest, part=cut_middle(newest.text, limit))
        return replace(self, entries=tuple(entries))

    def full_text(self) -> str:
        """Return the whole conversation, unfolded, which root code reads as `history`."""
        return "\n\n".join(f"## {'root' if entry.role == 'assistant' else 'engine'}\n{entry.text}" for entry in self.entries)


def cut_middle(text: str, limit: int) -> str:
    """Cut the middle out of a text and say so.

    Examples
    --------
    >>> cut_middle("a" * 50, 20)
    'aaaaaaaaaaaa\\n… [30 of 50 characters cut here] …\\naaaaaaaa'
    """
    if len(text) <= limit:
        return text
    first = limit * 3 // 5
    last = limit - first
    return f"{text[:first]}\n… [{len(text) - limit:,} of {counted(len(text), 'character')} cut here] …\n{text[len(text) - last :]}"


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
