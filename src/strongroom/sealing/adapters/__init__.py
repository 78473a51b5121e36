"""Where sealing touches the outside world: directories of files."""
