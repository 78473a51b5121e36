"""What touches TPMs and files: a raw TPM client, the attester over it, and the measuring of files."""
