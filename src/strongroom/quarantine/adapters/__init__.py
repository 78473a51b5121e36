"""Folders, encrypted copies, and scanners behind walls."""
