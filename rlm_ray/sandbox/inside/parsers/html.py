"""The text of HTML: blocks on lines of their own, headings marked by #, cells by tabs, quotations by >; no scripts, no styles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

_BLOCKS = frozenset(("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt"))
_BLOCKS |= {"fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html"}
_BLOCKS |= {"legend", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "title"}
_BLOCKS |= {"tr", "ul"}
_APART = frozenset(["p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "table", "pre", "hr", "title", "dl"])
_HIDDEN = frozenset(["script", "style", "noscript", "template", "svg", "math", "head", "object", "iframe"])
_SHOWN_IN_HEAD = frozenset(["title"])
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})", re.IGNORECASE)
_DISPLAY_NONE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"])


def declared(data: bytes) -> str:
    """Return the encoding that a page says it has in its beginning; empty where it says none."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return name
    match = _CHARSET.search(data[:4_096]) or _XML.match(data[:300])
    return match[1].decode("ascii", "replace") if match else ""


def read(data: bytes) -> Iterator[str]:
    """Yield one page: the text of an HTML file."""
    from rlm_ray.sandbox.inside.parsers.mail.headers import decode

    yield text_of(decode(data, declared(data))[0])


def text_of(html: str) -> str:
    """Return the text of HTML.

    Examples
    --------
    >>> text_of("<h2>A &amp; b</h2><p>c<br>d<table><tr><td>1<td>2</table><script>x</script>")
    '## A & b\\n\\nc\\nd\\n\\n1\\t2'
    """
    parser = _Text()
    parser.feed(html)
    parser.close()
    return parser.text()


class _Text(HTMLParser):
    """Gathers text, and the breaks between blocks."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line: list[str] = []
        self._break = 0  # empty lines that are due before the next text, and one for its own
        self._hidden: list[str] = []
        self._pre = self._quoted = self._last_quoted = 0
        self._prefix = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag."""
        if self._hidden:
            if tag not in _VOID:
                if tag in _SHOWN_IN_HEAD and self._hidden == ["head"]:
                    self._hidden.append("shown")
                elif tag == "body":
                    self._hidden.clear()
                elif tag in _HIDDEN or tag == self._hidden[-1]:
                    self._hidden.append(tag)
            if not self._hidden or self._hidden[-1] != "shown":
                return
        style = dict(attrs)
        if tag not in _VOID and (tag in _HIDDEN or "hidden" in style or _DISPLAY_NONE.search(style.get("style") or "")):
            self._hidden.append(tag)
            return
        if tag == "br":
            self._end_line()
            return
        if tag in _BLOCKS:
            self._due(2 if tag in _APART else 1)
        if tag in ("td", "th") and self._line:
            self._line.append("\t")
        elif tag == "li":
            self._prefix = "- "
        elif len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self._prefix = "#" * int(tag[1]) + " "
        elif tag == "pre":
            self._pre += 1
        elif tag == "blockquote":
            self._quoted = min(self._quoted + 1, 20)
        elif tag == "img" and (style.get("alt") or "").strip():
            self._add(f"[picture: {' '.join(str(style['alt']).split())}]")

    def handle_endtag(self, tag: str) -> None:
        """Take the end of a tag."""
        if self._hidden:
            last = self._hidden[-1]
            if last == tag or (last == "shown" and tag in _SHOWN_IN_HEAD):
                self._hidden.pop()
                if last == "shown":
                    self._due(2)
            return
        if tag in _BLOCKS:
            self._due(2 if tag in _APART else 1)
            self._prefix = ""
        if tag == "pre":
            self._pre = max(0, self._pre - 1)
        elif tag == "blockquote":
            self._quoted = max(0, self._quoted - 1)

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._hidden and self._hidden[-1] != "shown":
            return
        if self._pre:
            first, *others = data.split("\n")
            self._add(first, plain=True)
            for line in others:
                self._end_line()
                self._add(line, plain=True)
            return
        words = " ".join(data.split())
        if not words:
            if data and self._line and not self._line[-1].endswith((" ", "\t")):
                self._line.append(" ")
            return
        before = " " if data[0].isspace() and self._line and not self._line[-1].endswith((" ", "\t")) and not self._break else ""
        self._add(before + words + (" " if data[-1].isspace() else ""))

    def _add(self, text: str, plain: bool = False) -> None:
        if not text and not plain:
            return
        if self._break:
            self._end_line()
            if self._break > 1 and self._lines and self._lines[-1].strip("> "):
                self._lines.append(">" * min(self._quoted, self._last_quoted))
            self._break = 0
        self._last_quoted = self._quoted
        if not self._line:
            self._line.append("> " * self._quoted + self._prefix)
            self._prefix = ""
            text = text if plain else text.lstrip(" ")
        self._line.append(text)

    def _due(self, count: int) -> None:
        self._break = max(self._break, count)
        if self._line:
            self._end_line()

    def _end_line(self) -> None:
        line = "".join(self._line).rstrip()
        if self._line or not self._break:
            self._lines.append(line)
        self._line = []

    def text(self) -> str:
        """Return what was gathered."""
        if self._line:
            self._end_line()
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self._lines)).strip("\n")
