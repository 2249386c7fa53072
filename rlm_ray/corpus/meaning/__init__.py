"""The meaning of values: how every verb shows them, and how conditions compare them."""
