"""Signs that training is going wrong: each with what was measured, what it means, and which flag to try."""
