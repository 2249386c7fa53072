"""Verbs that draw records at random: samples, estimates, second readings, and what each says of how sure an answer is.

Stands on scans and batches; the arithmetic is `rlm_ray.sure`.
"""
