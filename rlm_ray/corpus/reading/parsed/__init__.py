"""Readers of formats that a parser in the sandbox reads: mail, and what they share."""
