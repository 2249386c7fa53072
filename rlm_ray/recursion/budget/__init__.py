"""The budget of a whole tree of calls, as values: amounts, reservations, refusals, measures, and the meter.

Imports `models.contract`, `models.prices` and `errors`; knows no jobs and no ports.
"""
