"""``python -m mscond`` is the command ``mscond``."""

from __future__ import annotations

from .command import main

if __name__ == "__main__":
    main(prog_name="mscond")
