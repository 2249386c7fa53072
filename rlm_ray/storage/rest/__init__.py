"""Stores that are asked by HTTP requests of the seam's own: Google, Azure, the hub of Hugging Face, any web server.

`requests` sends, tries again and names failures; each store says how its requests and replies are written. What carries the
credentials stands in `transports`.
"""
