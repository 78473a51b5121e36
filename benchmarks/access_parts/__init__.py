"""The parts of the benchmark of access decisions."""
