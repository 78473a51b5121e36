"""Serves SL3-WPI-01, SL4-WST-04: what a process shuts itself in with, whichever process it is.

System call filters, Landlock, and memory that the kernel hides. Who is shut in, and how far, is for each process to
say: an enclave's command (:mod:`strongroom.enclave.allowlist`), the keeper (:mod:`strongroom.keeper.walls`).
"""
