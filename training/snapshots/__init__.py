"""Network snapshots: written, and read without executing anything in them."""
