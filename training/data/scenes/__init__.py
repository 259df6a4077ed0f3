"""A built-in dataset: street scenes drawn from a random seed."""
