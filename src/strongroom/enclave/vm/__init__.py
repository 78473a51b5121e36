"""The measured virtual machine (SL4-WTU-01): an image with a digest, its prediction, and its boot."""
