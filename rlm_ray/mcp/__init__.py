"""The engine inside a coding agent: a server of the Model Context Protocol over some corpora."""
