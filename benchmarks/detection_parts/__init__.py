"""Parts of the benchmark of detection."""
