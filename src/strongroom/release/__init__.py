"""Serves SL2-WST-02, SL3-WAC-01 and SL4-WMO-01: the release protocol, where the shelves meet.

Pure: documents, evidence, the ledger that the log replays to, and a time go in; a verdict comes out. Anyone who holds
the log and the named documents can replay every decision. The steps are numbered in :mod:`strongroom.release.steps`.
"""
