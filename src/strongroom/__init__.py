"""Strongroom: RAND's framework for securing AI model weights (RRA2849-1), as running software.

Where to start: ``strongroom.sealing`` (the file format), ``strongroom.release`` (the decision),
``strongroom.keeper`` (the trusted process), ``strongroom.cli`` (what a person types).
"""

__version__ = "0.1.0"
