"""Records in object storage: the catalog, the meaning of a plan, the readers, and the computation of verbs.

`catalog` holds facts that need no record, `planning` is pure, `reading` turns bytes into batches, `operations` computes the
verbs on batches, `opening` goes from URIs to a manifest. Arrows: operations and opening -> reading -> planning -> catalog.
"""
