"""Mistakes of users."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake that the user can fix; the message says in one line what is wrong, where, and what to do."""
