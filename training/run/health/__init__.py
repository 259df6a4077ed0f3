"""Warnings that training is going wrong: what was measured, what it means, and which flags to try."""
