"""A detached signature over a JSON document, in the form that `trestle verify` checks: DSSE over an in-toto statement.

The digest is over the canonical JSON (RFC 8785), so that white space may change and no word may. The key is Ed25519:
that is what verifiers elsewhere take.
"""

from __future__ import annotations

from typing import Final

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError
from strongroom.core.signature import SignatureAlgorithm, Signer

IN_TOTO: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://oscal-compass.github.io/compliance-trestle/predicates/oscal-signing/v1"
MAX_DOCUMENT: Final = 8 * 1024 * 1024


def sign_document(name: str, document: bytes, signer: Signer) -> Envelope:
    """Sign a JSON document under its file name.

    :raises MalformedError: not JSON, or the key isn't Ed25519.
    """
    if signer.public_key.algorithm is not SignatureAlgorithm.ED25519:
        raise MalformedError("OSCAL documents are signed with an Ed25519 key: others can't verify the rest")
    digest = Digest.of(encode(parse(document, max_bytes=MAX_DOCUMENT)))
    statement: Json = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.value.hex()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "canonicalization": "RFC8785",
            "digestAlgorithm": "sha256",
            "digestSource": "canonical-json",
            "tool": "strongroom",
        },
    }
    return sign(IN_TOTO, encode(statement), signer)
