"""Everything that imports Ray: ports, tasks, futures, the shared limiter, metrics, and Ray's jobs.

Imports `worker` and the recursion; nothing below imports it.
"""
