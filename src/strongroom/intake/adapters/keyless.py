"""Keyless signatures, verified by the `sigstore` library against a trusted root that the caller supplies.

Nothing is fetched: the roots of certificates and logs are in that file, the log's promise or proof is in the bundle.
"""

from __future__ import annotations

import os
from typing import Any, Final

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.signatures import SignedBy
from strongroom.intake.statements import PAYLOAD_TYPE, SignatureMode, read_bundle, read_manifest

EXTRA: Final = "sigstore"


def read_root(trusted_root: bytes) -> Any:
    """Return what verifies by a trusted root, as the library has it.

    :raises MalformedError: it isn't one.
    :raises MissingExtraError: the library isn't installed.
    """
    models, verify = need("sigstore.models", extra=EXTRA), need("sigstore.verify", extra=EXTRA)
    errors = need("sigstore.errors", extra=EXTRA)
    # The library reads a path, and what lies at one can be exchanged: so a file that has none.
    fd = os.memfd_create("strongroom-trusted-root", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(trusted_root)
        return verify.Verifier(trusted_root=models.TrustedRoot.from_file(f"/proc/self/fd/{fd}"))
    except (errors.Error, ValueError) as error:
        raise MalformedError(f"the trusted root can't be read: {type(error).__name__}") from None
    finally:
        os.close(fd)


def verify_by_identity(data: bytes, *, trusted_root: bytes, identity: str, issuer: str) -> SignedBy:
    """Do steps 1 to 4 for a keyless signature: ``identity``, vouched for by ``issuer``, signed.

    :raises IntakeRefusedError: signature-form, signature-signer or signature-bad.
    :raises MalformedError: the trusted root isn't one.
    :raises MissingExtraError: the library isn't installed.
    """
    bundle = read_bundle(data)
    if bundle.mode is not SignatureMode.SIGSTORE:
        raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, f"the bundle is signed in {bundle.mode.value} mode")
    models, verify = need("sigstore.models", extra=EXTRA), need("sigstore.verify", extra=EXTRA)
    errors, verifier = need("sigstore.errors", extra=EXTRA), read_root(trusted_root)
    try:
        wanted = verify.policy.Identity(identity=identity, issuer=issuer)
        kind, payload = verifier.verify_dsse(models.Bundle.from_json(data), wanted)
    except (errors.Error, ValueError) as error:
        raise IntakeRefusedError(
            Rule.SIGNATURE_BAD, f"the keyless signature doesn't hold: {type(error).__name__}"
        ) from None
    # Both readers must have seen the same bytes in the one bundle.
    if kind != PAYLOAD_TYPE or payload != bundle.payload:
        raise IntakeRefusedError(Rule.SIGNATURE_FORM, "the bundle has two readings")
    return SignedBy(bundle.mode, f"{identity} by {issuer}", read_manifest(payload))
