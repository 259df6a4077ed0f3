"""Mistakes of users."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake that the user can fix; the message says in one line what is wrong, where, and what to do."""


def describe(error: BaseException) -> str:
    """Return the first line of an error, after its type unless it is a mistake of the user."""
    text = str(error).partition("\n")[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".removesuffix(": ")
