"""Readers of other programs' output: a line or a body in, events of our vocabulary out. Pure, and total over any bytes.

What a reader knows for certain becomes an event; what it doesn't know is named by its kind, and never guessed.
"""
