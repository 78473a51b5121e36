"""Targets of the pins' anchor: what stands on a disk that somebody may have put back, and where the TPM is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.core.digest import Digest
from strongroom.keeper.anchor import Anchored, AnchorUri
from strongroom.keeper.pins import Pins
from strongroom.keeper.tamper import changed_to

_PINS: Final = Pins(
    genesis=Digest.of(b"genesis"),
    log_size=9,
    log_root=Digest.of(b"root"),
    roster_epoch=2,
    policy_epoch=2,
    reference_values_epoch=2,
    latest=1_800_000_000,
)


def _anchored(data: bytes) -> None:
    if Anchored.parse(data).to_bytes() != data:
        raise AssertionError


def _uri(data: bytes) -> None:
    text = data.decode("utf-8", errors="replace")
    if str(AnchorUri.parse(text)) != text:
        raise AssertionError


def _sets() -> Iterable[bytes]:
    yield Anchored(number=1, pins=_PINS).to_bytes()


ANCHORS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "anchored-pins": Target(read=_anchored, seeds=_sets, longest=8192),
        "anchor-uri": Target(read=_uri, seeds=lambda: [b"tpm2:device:/dev/tpmrm0?nv=0x018f0000"], longest=512),
        "pins-put-in-place": Target(
            read=lambda data: changed_to("pins.json", _PINS.to_bytes(), data), seeds=lambda: [_PINS.to_bytes()]
        ),
        "keyring-put-in-place": Target(
            read=lambda data: changed_to("keyring.json", data, data), seeds=lambda: [b"{}"], longest=4096
        ),
    }
)
