"""A run as an OpenTelemetry trace: `spans` reads it from the run directory, `sending` gives it to a collector.

Belongs here: what other tools show of a run. It may import the ledger and what lies below; nothing that calls a model.
"""
