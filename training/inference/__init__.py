"""Uses of a trained generator: sampling, videos, projection, editing, export."""
