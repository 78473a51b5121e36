"""Serves SL3-WPI-01, alternative B: the command of a workspace, which runs a researcher's script or notebook."""
