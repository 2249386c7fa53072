"""The loop as a pure state machine, the messages it shows a root model, and the replay of its log.

Imports no storage, no sandbox and no cluster: events go in, commands come out.
"""
