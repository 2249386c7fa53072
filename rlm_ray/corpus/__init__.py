"""Records in object storage: what is known of them, what a plan means, how they are read, and what verbs compute.

`catalog` holds facts that need no record, `planning` is pure, `reading` turns bytes into batches, `operations` computes the
verbs on batches, `opening` goes from URIs to a manifest. Arrows: operations and opening -> reading -> planning -> catalog.
"""
