"""What every process does with the disk in one way."""
