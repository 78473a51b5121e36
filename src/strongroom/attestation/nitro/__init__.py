"""AWS Nitro Enclaves: the attestation document and the COSE_Sign1 structure around it. Parsing proves nothing."""
