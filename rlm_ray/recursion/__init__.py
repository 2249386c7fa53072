"""The Recursive Language Model itself; knows no Ray.

`loop` is pure; `budget` holds values; `leaf` is one group of leaf calls; `jobs` schedules work and lends budget; `verbs` turns
root code's requests into jobs. The driver, the service and the ports wire them together.
"""
