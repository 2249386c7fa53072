"""The meaning of a plan before any record is read: columns, predicates, pruning, ranges, work. Pure.

Imports the catalog and `handle.plan`; reads nothing and imports nothing of reading or operations.
"""
