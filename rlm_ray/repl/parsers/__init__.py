"""Parsers of foreign document formats. They run inside the sandbox only, behind its walls."""
