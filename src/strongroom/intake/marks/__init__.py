"""Whose copy leaked: a recipient's mark in the low bits of weights, put in when a copy is sealed."""
