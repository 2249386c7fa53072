"""Child processes: how they are started, pooled, timed and ended, and the bytes between them and the parent."""
