"""Azure confidential virtual machines: the paravisor's report (HCL) and the quote of its virtual TPM. Formats only."""
