"""The wall between root code and everything else.

`inside` runs in the child process, `outside` in the parent, `wire` is shared by both. Arrows: outside -> inside (names and
constants only), outside -> wire, inside -> wire.
"""
