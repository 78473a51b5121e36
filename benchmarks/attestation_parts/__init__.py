"""The parts of the benchmark of evidence's verification."""
