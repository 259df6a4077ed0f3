"""The embedded dataset: street scenes drawn from a seed."""
