"""TPM 2.0 wire formats (TCG TPM 2.0 Library, Part 2) as total, bounded parsers, and MakeCredential in plain Python."""
