"""Serves SL3-WPI-01: what runs inside the sandbox beside the weights, and says token ids and nothing else."""
