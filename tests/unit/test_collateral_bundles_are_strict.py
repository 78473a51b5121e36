"""A bundle has one spelling; anything else is refused, and so is an item that isn't what its name says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulators import sev_snp_chain
from simulators.intel_chain import FMSPC, intel_chain
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.format import EMPTY, MAX_BUNDLE, MAX_DATA, Bundle
from strongroom.attestation.bundle.reading import MAX_ITEM, read_item
from strongroom.attestation.collateral import MAX_ITEMS, CollateralKind
from strongroom.core.canonical import encode, parse
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from support.collateral import RIM_ID, rim, whole


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value: Any = parse(whole().to_bytes())
    change(value)
    return encode(value)


def test_a_bundle_reads_back_as_it_was_written() -> None:
    assert Bundle.parse(whole().to_bytes()) == whole()
    assert Bundle.parse(EMPTY.to_bytes()) == EMPTY
    assert Bundle.of(reversed(whole().items)).digest == whole().digest


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(v=2),
        lambda told: told.update(more=1),
        lambda told: told.pop("items"),
        lambda told: told["items"].reverse(),
        lambda told: told["items"].insert(0, told["items"][0]),
        lambda told: told["items"][0].update(not_after="2030-01-01T00:00:00Z"),
        lambda told: told["items"][0].pop("name"),
        lambda told: told["items"][0].update(name=""),
        lambda told: told["items"][0].update(name="CN=Somebody else"),
        lambda told: told["items"][0].update(kind="pem"),
        lambda told: told["items"][0].update(data="!"),
        lambda told: told["items"][0].update(data=""),
        lambda told: told["items"][0].update(data=to_base64(b"\x30\x00")),
    ],
)
def test_another_form_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(MalformedError):
        Bundle.parse(changed(change))


def test_another_spelling_of_the_same_json_is_refused() -> None:
    with pytest.raises(MalformedError, match="canonical"):
        Bundle.parse(whole().to_bytes() + b"\n")


def test_items_and_bytes_are_bounded() -> None:
    (item, *_rest) = whole().items
    with pytest.raises(MalformedError, match="at most"):
        Bundle((item,) * (MAX_ITEMS + 1))
    with pytest.raises(MalformedError, match="at most"):
        Bundle((item,) * (MAX_DATA // len(item.item.data) + 1))
    with pytest.raises(MalformedError, match="at most"):
        read_item(CollateralKind.CERTIFICATE, bytes(MAX_ITEM + 1))


@pytest.mark.parametrize("value", [b"[],", b'{"a":0},', b"[" * 20 + b"]" * 20 + b",", b'"ab",'])
@pytest.mark.parametrize("read", [Bundle.parse, read_collateral_file])
def test_more_values_than_a_bundle_has_are_refused_before_they_take_memory(
    read: Callable[[bytes], object], value: bytes
) -> None:
    # Parsed, such a file would take a gigabyte.
    crowded = b'{"items":[' + (value * (MAX_BUNDLE // len(value) - 16))[:-1] + b'],"v":1}'
    with pytest.raises(MalformedError, match="more values"):
        read(crowded)


def test_every_name_comes_from_the_data() -> None:
    machine = sev_snp_chain.Machine()
    names = {read.item.name for read in whole().items}
    assert names >= {
        f"genoa/vcek/{sev_snp_chain.chip().hex()}/{sev_snp_chain.TCBS[machine.product].hex()}",
        f"{FMSPC.hex()}/platform",
        RIM_ID,
        "CN=ARK-Genoa,O=Advanced Micro Devices,C=US,OU=Engineering",
    }
    for read in whole().items:
        with pytest.raises(MalformedError):
            read_item(read.item.kind, read.item.data, name=f"{read.item.name}x")


def test_dates_come_from_the_data() -> None:
    chain = intel_chain()
    early = read_item(CollateralKind.INTEL_TCB, chain.collateral(lists_end=1_790_000_100))
    late = read_item(CollateralKind.INTEL_TCB, chain.collateral())
    # A revocation list that ends first ends the whole item.
    assert early.item.not_after == 1_790_000_100 < late.item.not_after
    assert early.item.not_before == late.item.not_before


def test_a_manifest_is_of_the_version_that_its_name_ends_in() -> None:
    assert read_item(CollateralKind.NVIDIA_RIM, rim(), name=RIM_ID).item.name == RIM_ID
    for name in (RIM_ID[:-1] + "2", "NV_GPU_DRIVER_GH200_96.00.A5.00.01", "96.00.A5.00.01", "NV_A B_96.00.A5.00.01"):
        with pytest.raises(MalformedError):
            read_item(CollateralKind.NVIDIA_RIM, rim(), name=name)
    with pytest.raises(MalformedError, match="doesn't state its own id"):
        read_item(CollateralKind.NVIDIA_RIM, rim())
