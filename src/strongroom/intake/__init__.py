"""The gate for what comes in: serves SL3-NSC-01 and SL4-NSC-01 (nothing runs that wasn't allowed) and SL4-NSC-02
(provenance), against SUP-2 and AIS-2 (a supplier's artifact that carries code).

What is delivered is encrypted from its first byte, named by its digest, and walks through states that each leave a
record: signature, folder, formats, scanners, people. Nothing here loads, imports or runs what was delivered.
"""
