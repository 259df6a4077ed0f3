"""Images before they are trained on: archives, decoding, labels, preparation, the embedded scenes."""
