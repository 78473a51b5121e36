"""NVIDIA's services: reference manifests by their ids, and OCSP answers for the certificates of devices and signers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from strongroom.attestation.adapters.fetch_http import MakerClient
from strongroom.attestation.bundle.manifest import ManifestHeading
from strongroom.attestation.bundle.reading import ReadItem, read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.trust_anchors import load_certificate
from strongroom.core.canonical import parse
from strongroom.core.encoding import from_base64
from strongroom.core.errors import MalformedError

NVIDIA_RIM_URL: Final = "https://rim.attestation.nvidia.com"
NVIDIA_OCSP_URL: Final = "https://ocsp.ndis.nvidia.com"


def fetch_manifest(client: MakerClient, name: str) -> ReadItem:
    """Fetch a manifest by its RIM id.

    :raises NotPublishedError: there is none of this id.
    :raises MakerUnavailableError: the service doesn't answer.
    :raises MalformedError: its answer isn't a manifest of this id.
    """
    told = parse(client.get(f"/v1/rim/{name}").data, max_bytes=1 << 22)
    rim = told.get("rim") if isinstance(told, dict) else None
    if not isinstance(rim, str):
        raise MalformedError("NVIDIA's answer holds no manifest")
    return read_item(CollateralKind.NVIDIA_RIM, from_base64(rim), name=name)


def fetch_answers_for_device(client: MakerClient, chain: Sequence[bytes]) -> Iterator[ReadItem]:
    """Fetch an OCSP answer for each certificate of a device's chain below its root, but for the report's own key.

    ``chain`` is DER, leaf first, root last. The CAs come along: without them nobody sees whose the answers are.
    """
    yield from _answers(client, chain[1:])


def fetch_answers_for_signer(client: MakerClient, manifest: bytes) -> Iterator[ReadItem]:
    """Fetch an OCSP answer for each certificate below the root that a manifest brings, and the CAs among them."""
    yield from _answers(client, ManifestHeading.read(manifest).chain)


def _answers(client: MakerClient, chain: Sequence[bytes]) -> Iterator[ReadItem]:
    for der, issuer in pairwise(chain):
        # Responders tell certificates apart by the hash of their issuer; NVIDIA's knows SHA-384.
        asked = ocsp.OCSPRequestBuilder().add_certificate(load_certificate(der), load_certificate(issuer), SHA384())
        body = asked.build().public_bytes(Encoding.DER)
        yield read_item(CollateralKind.CERTIFICATE, issuer)
        yield read_item(CollateralKind.OCSP_ANSWER, client.post("/", body, "application/ocsp-request").data)
