"""The verbs' computations: one shard on a worker, and the merge of the partial results in the driver.

Imports reading, planning and the catalog. Knows no Ray and no model.
"""
