"""Wrapping providers: where the root key's own wrapping key lives."""
