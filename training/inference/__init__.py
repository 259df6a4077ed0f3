"""Uses of a trained generator: sampling, films, projection, editing, export."""
