"""The parent's side of a sandbox: start it, feed it, check all that comes out, replace it when it dies.

Trusts nothing from the child: frames are JSON, checked in shape and size; nothing is unpickled, evaluated or imported.
"""
