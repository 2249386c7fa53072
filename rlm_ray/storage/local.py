"""Files of this machine: the local half of storage."""

from __future__ import annotations

import bisect
import os
import secrets
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from stat import S_ISREG

from rlm_ray.errors import CredentialsError, InputError, StorageError
from rlm_ray.storage.names import ObjectInfo, is_hidden

#: Folders that are read at once, and folders that wait for that: Arrow asks for sizes and times without the interpreter's lock.
_AT_ONCE, _AHEAD = 2, 16


@dataclass(frozen=True, slots=True)
class _Folder:
    """What a folder holds, both in order."""

    files: list[ObjectInfo]
    folders: list[str]


def walk(base: str, lead: str, *, hidden: bool) -> Iterator[list[ObjectInfo]]:
    """Yield the files below a directory whose first name begins with `lead`, some at a time, in the order of their paths."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rlm-listing") as pool:
        try:
            yield from _below(_read(base, lead, hidden), pool, hidden)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _below(folder: _Folder, pool: ThreadPoolExecutor, hidden: bool) -> Iterator[list[ObjectInfo]]:
    ahead: deque[Future[_Folder]] = deque()
    waiting = iter(folder.folders)
    at = 0
    for path in folder.folders:
        ahead.extend(pool.submit(_read, more, "", hidden) for more in islice(waiting, _AHEAD - len(ahead)))
        # a directory sorts as "name/": that makes the whole walk come in the order of full paths
        behind = bisect.bisect_left(folder.files, (f"{path}/",))
        if behind > at:
            yield folder.files[at:behind]
        at = behind
        yield from _below(ahead.popleft().result(), pool, hidden)
    if at < len(folder.files):
        yield folder.files[at:]


def _read(base: str, lead: str, hidden: bool) -> _Folder:
    """Return what one directory holds; nothing where it is gone, or is none."""
    from pyarrow.fs import FileSelector, FileType, LocalFileSystem

    try:
        entries = LocalFileSystem().get_file_info(FileSelector(base))
    except (FileNotFoundError, NotADirectoryError):
        return _Folder([], [])
    except PermissionError:
        raise CredentialsError(f"Directory {base} may not be read by this user. Change its mode, or name another path.") from None
    except OSError as error:
        raise InputError(f"{base!r:.300} cannot be listed: {error}. Check the spelling.") from None
    files, folders, damaged = [], [], False
    first = len(base.rstrip("/")) + 1
    for entry in entries:
        try:
            path = entry.path
        except UnicodeDecodeError:
            damaged = True
            continue
        if (not hidden and path[first] in "._" and is_hidden(path[first:])) or not path.startswith(lead, first):
            continue
        size = entry.size
        if size is not None:
            files.append((path, size, f"{size:x}-{entry.mtime_ns:x}"))
        elif entry.type == FileType.Directory:
            folders.append(path)
    if damaged:
        files += _damaged(base, lead, hidden)
    return _Folder([*map(ObjectInfo._make, sorted(files))], sorted(folders, key=lambda path: f"{path}/"))


def _damaged(base: str, lead: str, hidden: bool) -> Iterator[tuple[str, int, str]]:
    """What of a directory has a name that is no UTF-8, as Python spells it."""
    with os.scandir(base) as entries:
        for entry in entries:
            is_text = entry.name == entry.name.encode(errors="replace").decode()
            if not is_text and entry.name.startswith(lead) and (hidden or not is_hidden(entry.name)):
                yield entry.path, entry.stat(follow_symlinks=False).st_size, ""


def stat(path: str) -> ObjectInfo | None:
    """Return a file's size and version; None where there is no file of that name."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise _refused(path) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path!r:.300} cannot be a path: {error}. Check the spelling.") from None
    if not S_ISREG(status.st_mode):
        return None
    return ObjectInfo(path, status.st_size, _version(status))


def read_head(path: str, most: int | None = None) -> tuple[bytes, str] | None:
    """Return the first bytes of a file, all of them without `most`, and its version; None if it is absent or changes meanwhile."""
    try:
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            wanted = before.st_size if most is None else min(most, before.st_size)
            data = file.read(wanted)
            version = _version(before)
            return (data, version) if version == _version(os.fstat(file.fileno())) and len(data) == wanted else None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except PermissionError:
        raise _refused(path) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}. Check the disk.") from None


def _version(status: os.stat_result) -> str:
    return f"{status.st_size:x}-{status.st_mtime_ns:x}"


def _refused(path: str) -> CredentialsError:
    return CredentialsError(f"{path} may not be read by this user. Change its mode, or name another path.")


def write(path: Path, data: bytes, only_if_absent: bool) -> bool:
    """Write a file whole, mode 0600; return False where it is there and was to be left alone."""
    temporary = path.parent / f".{path.name[:100]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        _make_parents(path.parent)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if only_if_absent:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
            else:
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}. Check the disk and the directory's mode.") from None
    return True


def _make_parents(folder: Path) -> None:
    """Make a folder and those above it, each for this user alone: `mkdir(parents=True)` gives its mode to the last only."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for item in reversed(missing):
        item.mkdir(mode=0o700, exist_ok=True)
