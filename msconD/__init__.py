"""MsConD: a multi-scale contrastive discriminator for complex scenes. See README.md of this folder."""
