"""What people say of a run: records to label, drawn blind from the found, the left and the unread, and what the labels show.

Stands on the run directory and on a session's records; the arithmetic is `rlm_ray.sure`. Calls no model.
"""
