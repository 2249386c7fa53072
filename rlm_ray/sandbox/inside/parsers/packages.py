"""Documents that are zip archives of XML: members within bounds, XML without declared entities, relations between parts."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import IO
from urllib.parse import unquote
from xml.etree import ElementTree

#: Uncompressed bytes of one member, and of all that are read.
MAX_MEMBER = 512 << 20
MAX_MEMBERS = 100_000
#: How deep elements may lie in each other: text is gathered by recursion.
MAX_DEPTH = 200
_PIECE = 64 << 10


class Package:
    """An archive whose members are XML parts. Members are read by their entry, never by a name that stands twice."""

    def __init__(self, data: bytes) -> None:
        try:
            archive = zipfile.ZipFile(io.BytesIO(data))
        except zipfile.BadZipFile:
            raise ValueError("it is damaged: it is not a zip file, or its end is missing") from None
        entries = archive.infolist()
        if len(entries) > MAX_MEMBERS:
            raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
        self._archive = archive
        self.members: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            # part names are compared without case (ECMA-376 part 2), and some writers use backslashes
            self.members.setdefault(entry.filename.replace("\\", "/").lstrip("/").lower(), entry)

    def __contains__(self, name: str) -> bool:
        return name.lstrip("/").lower() in self.members

    def open(self, name: str) -> IO[bytes]:
        """Open a member.

        Raises
        ------
        ValueError
            It is missing, protected by a password, too large, or compressed in a way that is not read here.
        """
        entry = self.members.get(name.lstrip("/").lower())
        if entry is None:
            raise ValueError(f"it is damaged: its part {name[:200]} is missing")
        if entry.flag_bits & 1:
            raise ValueError("it is protected by a password")
        if entry.file_size > MAX_MEMBER:
            raise ValueError(f"its part {name[:200]} has more than {MAX_MEMBER >> 20} MiB")
        try:
            return self._archive.open(entry)
        except NotImplementedError:
            raise ValueError(f"its part {name[:200]} is compressed by a method that is not read here") from None

    def read(self, name: str, most: int = 16 << 20) -> bytes:
        """Read a small member whole."""
        with self.open(name) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"its part {name[:200]} has more than {most >> 20} MiB")
        return data

    def tree(self, name: str) -> ElementTree.Element:
        """Parse a member whole."""
        root = None
        for root in self.elements(name):  # noqa: B007 - the last is the root
            pass
        assert root is not None
        return root

    def elements(self, name: str, path: tuple[str, ...] = ()) -> Iterator[ElementTree.Element]:
        """Yield each child of the element at `path` (local names from the root) when it is whole, and at last the root.

        A child is emptied when the next is asked for, so memory holds one at a time.

        Raises
        ------
        ValueError
            The part declares entities, or elements lie too deep in each other.
        """
        with self.open(name) as file:
            _refuse_declarations(file, name)
        with self.open(name) as file:
            yield from _elements(file, path)

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the relations of a part (`""`: of the package) by id: the kind's last word, and the target's name.

        Targets outside of the package are left out.
        """
        folder, _, base = part.rpartition("/")
        name = posixpath.join(folder, "_rels", f"{base}.rels")
        if name not in self:
            return {}
        found = {}
        for item in self.tree(name):
            if local(item.tag) == "Relationship" and item.get("TargetMode", "").lower() != "external":
                target = unquote(item.get("Target", ""))
                target = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
                found[item.get("Id", "")] = (item.get("Type", "").rstrip("/").rpartition("/")[2], target)
        return found


def _elements(file: IO[bytes], path: tuple[str, ...]) -> Iterator[ElementTree.Element]:
    depth = 0
    names: list[str] = []
    root = None
    for event, element in ElementTree.iterparse(file, ("start", "end")):
        if event == "start":
            root = element if root is None else root
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"its elements lie more than {MAX_DEPTH} deep in each other")
            if depth <= len(path):
                names.append(local(element.tag))
        else:
            if path and depth == len(path) + 1 and tuple(names[: len(path)]) == path:
                yield element
                element.clear()
            depth -= 1
            del names[depth:]
    if root is not None:
        yield root


def _refuse_declarations(file: IO[bytes], name: str) -> None:
    """Refuse a document type before the root element: entities are declared there, and grow without bound."""
    from xml.parsers import expat

    class Begun(Exception):
        pass

    def declared(*_: object) -> None:
        raise ValueError(f"its part {name[:200]} declares a document type, and an entity could be anything")

    def begun(*_: object) -> None:
        raise Begun

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = declared
    parser.StartElementHandler = begun
    try:
        while data := file.read(_PIECE):
            parser.Parse(data, False)
    except Begun:
        return
    except expat.ExpatError as error:
        raise ValueError(f"its part {name[:200]} is no XML: {error}") from None


def local(tag: object) -> str:
    """Return an element's or attribute's name without its namespace: Strict files have other namespaces for the same names."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def value_of(element: ElementTree.Element | None, name: str = "val", default: str = "") -> str:
    """Return an attribute by its local name."""
    if element is None:
        return default
    for key, value in element.items():
        if key.rpartition("}")[2] == name:
            return value
    return default


def child(element: ElementTree.Element | None, *names: str) -> ElementTree.Element | None:
    """Return the descendant at a path of local names; None where there is none."""
    for name in names:
        if element is None:
            return None
        element = next((item for item in element if local(item.tag) == name), None)
    return element


def is_on(element: ElementTree.Element | None) -> bool:
    """Whether a switch such as `<w:vanish/>` is there and not set to false."""
    return element is not None and value_of(element, "val", "true").lower() not in ("0", "false", "off")
