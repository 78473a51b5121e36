"""The interpreter that runs a researcher's code."""
