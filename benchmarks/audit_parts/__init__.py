"""The parts of the log's benchmark."""
