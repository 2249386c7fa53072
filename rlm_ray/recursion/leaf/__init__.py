"""One group of leaf calls on one event loop: single items and packed records, votes, retries.

Imports `subcalls` and `models.contract`; knows no jobs, no verbs and no storage.
"""
