"""Claims: single comparisons, each with what was seen, what would have passed, and what it says about the attester."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from strongroom.core.canonical import Json


class Aspect(StrEnum):
    """What a claim is about: the claims of AR4SI's trustworthiness vector (draft-ietf-rats-ar4si, section 2.3)."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    FILE_SYSTEM = "file-system"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"
    STORAGE_OPAQUE = "storage-opaque"
    SOURCED_DATA = "sourced-data"


@dataclass(frozen=True, slots=True)
class Claim:
    """One comparison. ``name`` is stable (``debug``, ``tcb.snp``, ``pcr0``); texts hold no secret."""

    name: str
    aspect: Aspect
    seen: str
    wanted: str
    ok: bool

    def to_json(self) -> Json:
        """Return ``{name, aspect, seen, wanted, ok}``."""
        return {
            "name": self.name,
            "aspect": self.aspect.value,
            "seen": self.seen,
            "wanted": self.wanted,
            "ok": self.ok,
        }


def equal(name: str, aspect: Aspect, seen: object, wanted: object) -> Claim:
    """Claim that two values are the same."""
    return Claim(name, aspect, said(seen), said(wanted), ok=seen == wanted)


def one_of(name: str, aspect: Aspect, seen: object, wanted: Iterable[object]) -> Claim:
    """Claim that a value is on an allow-list; an empty list allows nothing."""
    listed = tuple(wanted)
    return Claim(
        name, aspect, said(seen), "one of " + ", ".join(map(said, listed)) if listed else "nothing", seen in listed
    )


def at_least(name: str, aspect: Aspect, seen: int, floor: int) -> Claim:
    """Claim that a number (a security version, say) is at or above its floor."""
    return Claim(name, aspect, str(seen), f"at least {floor}", ok=seen >= floor)


def said(value: object) -> str:
    """Say a value in a claim: ``yes`` and ``no``, hex for bytes, ``nothing`` for what is absent or empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        value = value.hex()
    return str(value) if value not in ("", None) else "nothing"
