"""Formats: each parser reads hostile bytes through a small window, and returns facts or refuses. None loads them."""
