"""Projected GAN (arXiv 2111.01007): a discriminator on frozen ImageNet features. See baselines/README.md."""
