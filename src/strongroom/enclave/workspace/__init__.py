"""Serves SL3-WPI-01, alternative B: arbitrary code beside opened weights, and one metered, reviewed way out.

What stands outside: the launcher hands the input in, carries the asking, and writes a file that only reviewers open.
"""
