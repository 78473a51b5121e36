"""Serves SL3-WPI-01, alternative B: the way out of a workspace, which is packed, charged and encrypted to reviewers.

All of it is measured code beside the weights; the researcher's own code has ended before any of it runs.
"""
