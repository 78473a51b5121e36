"""Serves SL4-WTU-01 (confidential computing) and SL2-WST-02 (keys only on authentication), in RATS (RFC 9334) words.

An *attester* hands in *evidence*: one statement of a platform, and one of each device in it. The *verifier* appraises
it, genuine first and then wanted, against *endorsements* (pinned roots, collateral, the platform's record) and
*reference values* that the root quorum signed; the *attestation result* names the image, every comparison that was
made, and the isolation class, which caps the security level.

Where what is: a folder for each technology's formats (``tpm``, ``sev_snp``, ``tdx``, ``nitro``, ``nvidia``, ``azure``);
``verifiers`` and ``policies``, a module for each kind; ``containers`` for files as other tools write them; ``bundle``
for the collateral bundle; ``anchors`` for makers' roots. All of it is pure except ``adapters``.
"""
