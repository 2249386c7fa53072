"""Work under way: the scheduler of jobs, results, progress, coverage, and the budget lent to groups and calls.

Imports `recursion.budget` and `recursion.ports`; knows no verb.
"""
