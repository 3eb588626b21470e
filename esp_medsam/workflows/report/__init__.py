"""A page about the results in folders, on which a reader marks them as passed or failed."""
