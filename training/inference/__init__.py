"""Uses of a trained generator: sampling, projection, export."""
