"""Delivered folders as they lie on a disk."""
