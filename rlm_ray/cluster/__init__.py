"""The ports of the recursion, on Ray. Everything that imports ray is here."""
