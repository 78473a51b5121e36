"""The measured virtual machine (SL3-WTU-01, SL4-WTU-01): an image with a digest, its prediction, and its boot."""
