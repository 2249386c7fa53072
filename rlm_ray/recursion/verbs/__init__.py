"""The verbs of root code as jobs: scans, functions, SQL, batches, recursive calls, citations.

`dispatch` checks each request and starts its job. Imports `recursion.jobs`, `recursion.budget` and `recursion.leaf`.
"""
