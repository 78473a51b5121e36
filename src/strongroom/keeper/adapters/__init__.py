"""The keeper's own files, and its connection to the log writer."""
