"""``from strongroom.torch import load_file``: :mod:`strongroom.loaders.torch` under a short name."""

from strongroom.loaders.torch import add_file, load_file, load_into, safe_open, save_file

__all__ = ["add_file", "load_file", "load_into", "safe_open", "save_file"]
