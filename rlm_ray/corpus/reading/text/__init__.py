"""Readers of text: streams of bytes, lines, CSV and JSON lines, also compressed."""
