"""Training StyleGAN2-ADA: data, networks, augmentation, loss, loop. Nothing here knows of a method built on it."""
