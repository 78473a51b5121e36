"""Serves the people behind every measure: what one types in a shell. One file for each verb."""
