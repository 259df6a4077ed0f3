"""Other methods than MsConD, in the same trainer: baselines/README.md describes each."""
