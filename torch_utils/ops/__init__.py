"""Tensor operations of StyleGAN2-ADA: one file each, with exact first and second derivatives on every device."""
