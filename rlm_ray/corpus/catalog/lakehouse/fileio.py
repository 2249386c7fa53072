"""pyiceberg's way to files, through the one seam to storage: the same credentials, endpoint and retries as for all."""

from __future__ import annotations

import io

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile

from rlm_ray import storage
from rlm_ray.errors import StorageError


class StorageInput(InputFile):
    """One file of a table's metadata."""

    def __len__(self) -> int:
        info = storage.stat(storage.literal(self.location))
        return 0 if info is None else info.size

    def exists(self) -> bool:
        """Whether it is there."""
        return storage.exists(storage.literal(self.location))

    def open(self, seekable: bool = True) -> InputStream:
        """Open it: metadata is small and read whole."""
        data = storage.find_bytes(storage.literal(self.location))
        if data is None:
            raise FileNotFoundError(f"{self.location} does not exist")
        stream: InputStream = io.BytesIO(data)
        return stream


class StorageIO(FileIO):
    """Reads; a corpus is never written to."""

    def new_input(self, location: str) -> InputFile:
        """Return a file to read."""
        return StorageInput(location)

    def new_output(self, location: str) -> OutputFile:
        """Refuse."""
        raise StorageError(f"{location} was to be written. Tables are only read here: report this.")

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Refuse."""
        raise StorageError(f"{location} was to be deleted. Tables are only read here: report this.")
