"""What a trained generator is used for: sampling, projection, export."""
