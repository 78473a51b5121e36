"""Serves SL4-ARA-01: programs that run inside an enclave and try to get out."""
