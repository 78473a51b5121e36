"""What is wanted of each kind of evidence, as typed data: every field mandatory, no silent default."""
