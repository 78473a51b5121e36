"""Upstream's keyless vector, against the trusted root that comes with the `sigstore` library. Nothing is fetched."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from cryptography import x509

from strongroom.intake.adapters.keyless import verify_by_identity
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.statements import SignatureMode, read_bundle
from support.vectors import vectors_folder

pytest.importorskip("sigstore")
_ISSUER = "https://sigstore.verify.ibm.com/oauth2"


def _root() -> Path:
    stores = Path(str(resources.files("sigstore._store")))
    return next(one / "trusted_root.json" for one in stores.iterdir() if one.name.endswith("sigstore.dev"))


def _bundle() -> tuple[bytes, str]:
    data = (vectors_folder("oms") / "v1.0" / "valid" / "sigstore.bundle.json").read_bytes()
    certificate = x509.load_der_x509_certificate(read_bundle(data).certificates[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return data, names.get_values_for_type(x509.RFC822Name)[0]


def test_the_identity_that_signed_is_known() -> None:
    data, identity = _bundle()
    found = verify_by_identity(data, trusted_root=_root().read_bytes(), identity=identity, issuer=_ISSUER)
    assert found.mode is SignatureMode.SIGSTORE
    assert set(found.manifest.files) == {"signme-1", "signme-2"}


@pytest.mark.parametrize(
    ("identity", "issuer"), [("somebody@example.com", _ISSUER), ("", _ISSUER), (None, "https://other.example")]
)
def test_somebody_else_didnt_sign(identity: str | None, issuer: str) -> None:
    data, signed_by = _bundle()
    wanted = signed_by if identity is None else identity
    with pytest.raises(IntakeRefusedError) as found:
        verify_by_identity(data, trusted_root=_root().read_bytes(), identity=wanted, issuer=issuer)
    assert found.value.rule is Rule.SIGNATURE_BAD


def test_a_changed_bundle_doesnt_hold() -> None:
    data, identity = _bundle()
    signature = data.index(b'"sig": "') + 20
    changed = data[:signature] + (b"A" if data[signature : signature + 1] != b"A" else b"B") + data[signature + 1 :]
    with pytest.raises(IntakeRefusedError):
        verify_by_identity(changed, trusted_root=_root().read_bytes(), identity=identity, issuer=_ISSUER)
