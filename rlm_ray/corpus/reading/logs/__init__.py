"""Readers of logs: events of many lines, and the fields of lines and events."""
