"""The child process: it locks itself in, runs cells and answers the parent. Hostile code lives beside it.

Imports the standard library, `handle`, `errors` and `sandbox.wire`; nothing that could read, call or compute for root code.
"""
