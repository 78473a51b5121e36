"""Building an image's files, and running them under QEMU."""
