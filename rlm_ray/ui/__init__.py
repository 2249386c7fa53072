"""All runs of a folder as pages of a local server that only reads: list, one run, two compared, a live one, jobs."""
