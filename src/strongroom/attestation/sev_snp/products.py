"""Product lines: which root signs for a processor, and how its TCB version is laid out (AMD 57230)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.errors import MalformedError

_LINE: Final = re.compile(r"[A-Za-z]+")
TCB_BYTES: Final = 8


class Product(StrEnum):
    """A line of processors under one AMD root key."""

    MILAN = "milan"
    """EPYC 7003."""
    GENOA = "genoa"
    """EPYC 9004 and 8004: Genoa, Genoa-X, Bergamo and Siena share one root."""
    TURIN = "turin"
    """EPYC 9005."""

    @property
    def has_fmc(self) -> bool:
        """True where the TCB version names the first mutable code, and the chip identifier has 8 bytes, not 64."""
        return self is Product.TURIN


_NAMES: Final = {
    "milan": Product.MILAN,
    "genoa": Product.GENOA,
    "bergamo": Product.GENOA,
    "siena": Product.GENOA,
    "turin": Product.TURIN,
}


def product_named(name: str) -> Product | None:
    """Return the line that a certificate's product name says (``Milan-B0``, ``Genoa``, ``Siena-A1``).

    The stepping is left out: AMD's key service is known to name another one than the chip has.
    """
    found = _LINE.match(name)
    return _NAMES.get(found[0].casefold()) if found else None


def product_of_cpu(family: int, model: int) -> Product | None:
    """Return the line of a processor by CPUID family and model, each with its extension added in."""
    match family, model >> 4:
        case 0x19, 0x0:
            return Product.MILAN
        case 0x19, 0x1 | 0xA:
            return Product.GENOA
        case 0x1A, 0x0 | 0x1:
            return Product.TURIN
    return None


@dataclass(frozen=True, slots=True)
class Tcb:
    """A TCB version: the security version of each part of the firmware. 8 bytes that products lay out differently."""

    raw: bytes
    product: Product

    def __post_init__(self) -> None:
        if len(self.raw) != TCB_BYTES:
            raise MalformedError(f"a TCB version has {TCB_BYTES} bytes, not {len(self.raw)}")

    @property
    def parts(self) -> dict[str, int]:
        """Name to security version: ``fmc`` (Turin only), ``bootloader``, ``tee``, ``snp``, ``microcode``."""
        return {name: self.raw[at] for name, at in _LAYOUTS[self.product].items()}

    def __str__(self) -> str:
        return " ".join(f"{name} {version}" for name, version in self.parts.items())


_LEGACY: Final = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_LAYOUTS: Final = {
    Product.MILAN: _LEGACY,
    Product.GENOA: _LEGACY,
    Product.TURIN: {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}


def tcb_parts(product: Product) -> tuple[str, ...]:
    """Return the names of the parts of a product's TCB version."""
    return tuple(_LAYOUTS[product])
