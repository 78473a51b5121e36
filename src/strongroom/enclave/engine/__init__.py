"""Serves SL3-WPI-01: what runs inside the sandbox beside the weights, and says counted units and nothing else."""
