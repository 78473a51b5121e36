"""Serves SL2-NCM-02, SL3-WPI-01, SL4-WST-04, SL4-ARA-02, SL4-WTU-01: where weights are opened and run.

The process enclave confines the code that holds opened weights: a private view of the file system, no network, no
privileges, an allow-list of system calls, and memory-only places to write. It is the weakest class of enclave: whoever
is root on the host can still look inside (docs/internals/process-enclave.md says exactly where).
"""
