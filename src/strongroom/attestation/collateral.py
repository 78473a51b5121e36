"""The collateral bundle: what makers publish about their chips, carried to where no network is.

Certificates between a chip and its pinned root, revocation lists, Intel's TCB information, NVIDIA's reference
integrity manifests and OCSP answers. Each item is signed by its maker and checked again whenever it is used: a bundle
from hostile storage can be incomplete or old, and then less is endorsed, never more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from strongroom.attestation.revocation import RevocationLists
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest

MAX_ITEMS: Final = 4096
"""Items in a bundle."""
MAX_NAME: Final = 256


class CollateralKind(StrEnum):
    """What an item holds."""

    CERTIFICATE = "certificate"
    """DER X.509: intermediates (AMD ASK and ASVK, TPM makers' CAs) and chips' own (VCEK, VLEK)."""
    REVOCATION_LIST = "crl"
    """DER."""
    INTEL_TCB = "intel-tcb"
    """JSON of Intel's quote collateral version 3; named ``FMSPC/ca``, e.g. ``00806f050000/platform``."""
    NVIDIA_RIM = "nvidia-rim"
    """XML SWID tag, named by its RIM id, e.g. ``NV_GPU_DRIVER_GH100_535.86.09``."""
    OCSP_ANSWER = "ocsp"
    """DER OCSP response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralItem:
    """One item. ``not_before`` and ``not_after`` are read from the item itself when it is imported."""

    kind: CollateralKind
    name: str
    data: bytes
    not_before: Instant
    not_after: Instant

    @property
    def digest(self) -> Digest:
        """SHA-256 of the data."""
        return Digest.of(self.data)


@dataclass(frozen=True)
class Collateral:
    """A bundle. Not slotted: the parsed lists are kept."""

    items: tuple[CollateralItem, ...]

    def data(self, kind: CollateralKind) -> tuple[bytes, ...]:
        """Return the data of every item of a kind."""
        return tuple(item.data for item in self.items if item.kind is kind)

    def named(self, kind: CollateralKind, name: str) -> tuple[bytes, ...]:
        """Return the data of the items of a kind with this name, newest first."""
        found = [item for item in self.items if item.kind is kind and item.name == name]
        return tuple(item.data for item in sorted(found, key=lambda item: item.not_before, reverse=True))

    @cached_property
    def certificates(self) -> tuple[bytes, ...]:
        """The DER certificates."""
        return self.data(CollateralKind.CERTIFICATE)

    @cached_property
    def lists(self) -> RevocationLists:
        """The revocation lists, parsed once."""
        return RevocationLists.load(self.data(CollateralKind.REVOCATION_LIST))


NO_COLLATERAL: Final = Collateral(())
