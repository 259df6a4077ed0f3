"""InsGen (arXiv 2106.04566): every image, real or generated, is a class of its own for D. See baselines/README.md."""
