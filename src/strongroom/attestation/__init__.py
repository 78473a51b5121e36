"""Serves SL4-WTU-01 (confidential computing) and SL2-WST-02 (keys only on authentication), in RATS (RFC 9334) words.

An *attester* hands in *evidence*; the *verifier* appraises it, genuine first and then wanted, against *reference
values* that the root quorum signed; the *attestation result* names the image, the claims and the isolation class.
Today's evidence is a TPM 2.0 quote over what a launcher measured. A quote from a software TPM proves the plumbing and
never counts as hardware. All of it is pure except ``adapters``.
"""
