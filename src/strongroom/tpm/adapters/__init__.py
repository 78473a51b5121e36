"""Carrying commands to a TPM and reading what it answers."""
