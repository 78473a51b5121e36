"""Serves SL3-ART-01: a deployment made for one run, with real processes and throw-away people, to be attacked."""
