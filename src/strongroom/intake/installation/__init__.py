"""Whether what is installed here is what was built: our own supply chain."""
