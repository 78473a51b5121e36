"""The encrypted copy of a delivery: what it is called, so that nothing that opens models takes it for one.

It is a sealed directory of our own format. Its manifest names a deployment that doesn't exist, so every reader that
knows its own deployment refuses it; its key is in no recipients file, in no keeper, and only the operator's wallet has
it, under a name and a label of its own.
"""

from __future__ import annotations

from typing import Final

from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.quarantine.terms import Terms
from strongroom.sealing.manifest import ManifestExpectation
from strongroom.sealing.write import VersionFacts

_LABEL: Final = "strongroom quarantine v1"


def quarantine_genesis(terms: Terms) -> Digest:
    """Return the deployment that a copy says it belongs to: one of its own."""
    return Digest.of(encode({"purpose": _LABEL, "genesis": str(terms.genesis), "delivery": terms.delivery}))


def copy_facts(terms: Terms, operator: PersonId) -> VersionFacts:
    """Return what the copy's manifest says."""
    return VersionFacts(
        genesis=quarantine_genesis(terms),
        model=terms.model,
        version=1,
        predecessor=None,
        data_key_id=f"quarantine/{terms.delivery}",
        publisher=operator,
    )


def copy_expectation(terms: Terms, manifest: Digest | None) -> ManifestExpectation:
    """Return what the copy's manifest must be; ``manifest`` is known once `hashed` is recorded."""
    return ManifestExpectation(genesis=quarantine_genesis(terms), model=terms.model, version=1, digest=manifest)


def kept_about(terms: Terms) -> bytes:
    """Return what the wallet binds the copy's key to."""
    return encode({"purpose": _LABEL, "genesis": str(terms.genesis), "model": terms.model, "delivery": terms.delivery})
