"""Serves SL1-WAC-02 and SL2-WMO-01: every authoritative act is recorded, on a log that nobody can rewrite unseen.

A transparency log: RFC 6962 trees, C2SP notes, checkpoints and tiles. One process writes it; anybody who holds its
verifier key can check all of it offline. What grants or takes away access is replayed from here, not from a database.
"""
