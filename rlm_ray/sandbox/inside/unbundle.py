"""Runs first in a child, by `bundle.BOOT`: makes the parent's bundled modules importable without a search for files.

Modules get the loader and the place that they have anyway, so that their source can be found. What is not in the bundle is
imported from files.
"""

from __future__ import annotations

import marshal
import sys
from _frozen_importlib_external import SourceFileLoader, spec_from_file_location

modules = globals().get("modules", {})


class Loader(SourceFileLoader):
    """A module's code out of the bundle, the first time; else from its file."""

    def get_code(self, fullname):  # type: ignore[no-untyped-def]
        """Return the code of a module."""
        bundled = modules.pop(fullname, None)
        return super().get_code(fullname) if bundled is None else marshal.loads(bundled[0])


class Finder:
    """Finds what is in the bundle."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        """Return the module's specification, or None."""
        if name not in modules:
            return None
        _, origin, is_package = modules[name]
        folders = [origin.rpartition("/")[0]] if is_package else None
        return spec_from_file_location(name, origin, loader=Loader(name, origin), submodule_search_locations=folders)


if modules:
    sys.meta_path.insert(0, Finder)
