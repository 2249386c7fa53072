"""The work of one process, in a Ray task or in a thread: scans, functions, SQL, groups of leaf calls. Knows no Ray.

Imports the recursion's ports, the corpus, the sandbox, the ledger and the models.
"""
