"""Bundles of OpenSSF Model Signing v1.0, as a signer makes them: the generator of our own vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.core.encoding import to_base64
from strongroom.core.envelope import pae

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
TYPE = "application/vnd.in-toto+json"


@dataclass(kw_only=True)
class Signing:
    """What goes into a bundle; a test changes one thing."""

    key: ec.EllipticCurvePrivateKey
    files: Mapping[str, bytes]
    chain: Sequence[x509.Certificate] = ()
    statement: dict[str, Any] = field(default_factory=dict)
    predicate: dict[str, Any] = field(default_factory=dict)
    ignored: Sequence[str] = ()

    def payload(self) -> bytes:
        digests = {name: hashlib.sha256(data) for name, data in sorted(self.files.items())}
        whole = hashlib.sha256(b"".join(one.digest() for one in digests.values())).hexdigest()
        predicate = {
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": one.hexdigest()} for name, one in digests.items()
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(self.ignored),
            },
            **self.predicate,
        }
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "model", "digest": {"sha256": whole}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": predicate,
            **self.statement,
        }
        return json.dumps(statement, indent=2).encode()

    def bundle(self) -> bytes:
        payload = self.payload()
        signature = self.key.sign(pae(TYPE, payload), ec.ECDSA(_HASHES[self.key.curve.name]))
        material: dict[str, Any] = {"tlogEntries": []}
        if self.chain:
            ders = [{"rawBytes": to_base64(one.public_bytes(Encoding.DER))} for one in self.chain]
            material["x509CertificateChain"] = {"certificates": ders}
        else:
            material["publicKey"] = {"hint": "0" * 64}
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": material,
                "dsseEnvelope": {
                    "payload": to_base64(payload),
                    "payloadType": TYPE,
                    "signatures": [{"sig": to_base64(signature), "keyid": ""}],
                },
            },
            indent=2,
        ).encode()
