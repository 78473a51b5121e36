"""AMD's key distribution service (AMD 57230, chapter 4): intermediates, revocation lists and chips' certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.attestation.adapters.fetch_http import MakerClient, NotPublishedError
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.reading import ReadItem, read_item
from strongroom.attestation.bundle.wants import AmdChip
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.sev_snp.products import Product

AMD_URL: Final = "https://kdsintf.amd.com"
_NAMES: Final = {Product.MILAN: "Milan", Product.GENOA: "Genoa", Product.TURIN: "Turin"}
_PARAMETERS: Final = {
    "fmc": "fmcSPL",
    "bootloader": "blSPL",
    "tee": "teeSPL",
    "snp": "snpSPL",
    "microcode": "ucodeSPL",
}


def fetch_product(client: MakerClient, product: Product) -> Iterator[ReadItem]:
    """Fetch a product line's certificate chains, of chips' keys and of providers', and its revocation list.

    :raises NotPublishedError: there is no such product.
    :raises MakerUnavailableError: the service doesn't answer.
    :raises MalformedError: its answer isn't what it should be.
    """
    name = _NAMES[product]
    yield from read_collateral_file(client.get(f"/vcek/v1/{name}/cert_chain").data)
    yield read_item(CollateralKind.REVOCATION_LIST, client.get(f"/vcek/v1/{name}/crl").data)
    try:
        yield from read_collateral_file(client.get(f"/vlek/v1/{name}/cert_chain").data)
    except NotPublishedError:
        return  # a product without keys for providers


def fetch_chip(client: MakerClient, wanted: AmdChip) -> ReadItem:
    """Fetch a chip's certificate for one TCB version.

    :raises NotPublishedError: AMD knows no such chip, or not at this TCB version.
    :raises MakerUnavailableError: the service doesn't answer.
    :raises MalformedError: its answer isn't a certificate.
    """
    query = {_PARAMETERS[part]: f"{version:02d}" for part, version in wanted.tcb.parts.items()}
    answer = client.get(f"/vcek/v1/{_NAMES[wanted.tcb.product]}/{wanted.published}", query)
    return read_item(CollateralKind.CERTIFICATE, answer.data)
