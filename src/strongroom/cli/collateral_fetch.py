"""From what is wanted to the makers' services, one after the other: their limits are low, and nobody waits here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.attestation.adapters.fetch_amd import fetch_chip, fetch_product
from strongroom.attestation.adapters.fetch_http import MakerClient
from strongroom.attestation.adapters.fetch_intel import fetch_platform
from strongroom.attestation.adapters.fetch_nvidia import (
    fetch_answers_for_device,
    fetch_answers_for_signer,
    fetch_manifest,
)
from strongroom.attestation.bundle.reading import ReadItem
from strongroom.attestation.bundle.wants import Wants


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Addresses of the makers' services, or of caches of them."""

    amd: str
    intel: str
    intel_root: str
    nvidia_rim: str
    nvidia_ocsp: str


def fetched(wanted: Wants, services: Services) -> Iterator[ReadItem]:
    """Fetch everything that is wanted.

    :raises NotPublishedError: a maker publishes nothing of a name.
    :raises MakerUnavailableError: a service doesn't answer.
    :raises MalformedError: an answer isn't what it should be.
    """
    with MakerClient(services.amd) as amd:
        for product in wanted.products:
            yield from fetch_product(amd, product)
        for chip in wanted.chips:
            yield fetch_chip(amd, chip)
    with MakerClient(services.intel) as intel, MakerClient(services.intel_root) as root:
        for fmspc, ca in wanted.platforms:
            yield from fetch_platform(intel, root, fmspc, ca)
    with MakerClient(services.nvidia_rim) as rims, MakerClient(services.nvidia_ocsp) as responder:
        for name in wanted.manifests:
            manifest = fetch_manifest(rims, name)
            yield manifest
            yield from fetch_answers_for_signer(responder, manifest.item.data)
        for chain in wanted.chains:
            yield from fetch_answers_for_device(responder, chain)
