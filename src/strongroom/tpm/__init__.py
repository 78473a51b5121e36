"""Serves SL2-WST-02: how this machine's TPM 2.0 is spoken to, for keys and for evidence alike.

Transport, framing and the few structures that commands need. What a quote means is attestation's; what is closed
under a PCR policy is a key provider's.
"""
