"""What a value means: how all verbs show it, and how conditions compare it."""
