"""A run: its configuration, its folder, its log and its processes."""
