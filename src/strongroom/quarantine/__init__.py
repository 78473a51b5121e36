"""The gate at work: serves SL3-NSC-01 and SL4-NSC-01 (nothing runs that wasn't allowed), SL4-NSC-02 (provenance) and
SL2-WMO-02 (weights on few, watched systems), against SUP-2 and AIS-2.

A delivery is encrypted as it is read, under a key of its own that its operator's wallet keeps; everything after that
reads the encrypted copy. :mod:`strongroom.intake` has the rules and the records, here they meet sealing, the wallet and
the log: docs/operate/intake.md, ADR 0053.
"""
