"""The parts of the sealing benchmark."""
