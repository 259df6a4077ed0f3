"""Several methods trained with several seeds, scored alike, and shown on one page: the parts of ``compare.py``."""
