"""What is wanted of the platform under an Intel quote: the part that TDX and SGX share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from strongroom.attestation.claims import Aspect, Claim, at_least, said
from strongroom.attestation.policies.allowed import NOTHING, Allowed
from strongroom.attestation.tdx.tcb import TcbStatus, TcbVerdict
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

Name = TypeVar("Name", bound=StrEnum)

_ADVISORY: Final = re.compile(r"INTEL-SA-[0-9]{5}")
_PPID: Final = re.compile(r"[0-9a-f]{32}")
_MOST_ADVISORIES: Final = 256
_MOST_NUMBER: Final = 2**31 - 1
_STRICT_EVALUATION: Final = 20
"""Intel's TCB recovery of 2025-08-13; collateral of October 2026 carries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRules:
    """Rules for the platform."""

    statuses: tuple[TcbStatus, ...]
    """Intel's verdicts that are taken. dcap-qvl passes all but ``Revoked``: only this list refuses."""
    advisories: tuple[str, ...]
    """Security advisories that were read and accepted. One that applies and isn't here is refused."""
    evaluation_number: int
    """Floor of the collateral's TCB evaluation number, so that older, still unexpired collateral isn't replayed."""
    allow_dynamic_platform: bool
    """Whoever runs the platform may add processor packages later."""
    allow_cached_keys: bool
    """Intel holds the platform's root keys, so that it can register changes."""
    allow_smt: bool
    """Threads of others may share a core."""
    platforms: Allowed
    """PPIDs of the platforms that are taken: 32 hex digits each. Against quotes forged with a memory interposer, only
    such a list and physical custody help (TEE.fail, WireTap)."""

    @classmethod
    def read(cls, fields: Fields) -> PlatformRules:
        """Read the object.

        :raises MalformedError: a field is missing, unknown or out of its range.
        """
        advisories = fields.texts("advisories", most=_MOST_ADVISORIES)
        if len(set(advisories)) != len(advisories) or not all(map(_ADVISORY.fullmatch, advisories)):
            raise MalformedError(f"`{fields.where}.advisories` must name advisories as `INTEL-SA-00615`, each once")
        return cls(
            statuses=names(fields, "statuses", TcbStatus),
            advisories=advisories,
            evaluation_number=fields.integer("evaluation_number", most=_MOST_NUMBER),
            allow_dynamic_platform=fields.boolean("allow_dynamic_platform"),
            allow_cached_keys=fields.boolean("allow_cached_keys"),
            allow_smt=fields.boolean("allow_smt"),
            platforms=Allowed.read(fields, "platforms", _PPID),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {
            "statuses": [status.value for status in self.statuses],
            "advisories": list(self.advisories),
            "evaluation_number": self.evaluation_number,
            "allow_dynamic_platform": self.allow_dynamic_platform,
            "allow_cached_keys": self.allow_cached_keys,
            "allow_smt": self.allow_smt,
            "platforms": self.platforms.to_json(),
        }

    @classmethod
    def strictest(cls) -> PlatformRules:
        """Return the tightest rules: up to date, nothing open, and each platform must be listed, which none is yet."""
        return cls(
            statuses=(TcbStatus.UP_TO_DATE,),
            advisories=(),
            evaluation_number=_STRICT_EVALUATION,
            allow_dynamic_platform=False,
            allow_cached_keys=False,
            allow_smt=False,
            platforms=NOTHING,
        )

    def claims(self, tcb: TcbVerdict) -> Iterable[Claim]:
        """Compare, one claim for each field."""
        hardware = Aspect.HARDWARE
        yield Claim("tcb-status", hardware, tcb.said, _listed(self.statuses), ok=tcb.status in self.statuses)
        yield within("advisories", hardware, tcb.advisories, self.advisories)
        yield at_least("tcb-evaluation-number", hardware, tcb.evaluation_number, self.evaluation_number)
        yield _flag("dynamic-platform", seen=tcb.pck.dynamic_platform, allowed=self.allow_dynamic_platform)
        yield _flag("cached-keys", seen=tcb.pck.cached_keys, allowed=self.allow_cached_keys)
        yield _flag("smt", seen=tcb.pck.smt, allowed=self.allow_smt)
        yield self.platforms.claim("platform", Aspect.INSTANCE_IDENTITY, tcb.pck.identity.hex())


def names(fields: Fields, name: str, kind: type[Name]) -> tuple[Name, ...]:
    """Take an array of names of an enumeration, each once.

    :raises MalformedError: another name, or one twice.
    """
    texts = fields.texts(name, most=len(kind))
    try:
        found = tuple(kind(text) for text in texts)
    except ValueError:
        raise MalformedError(f"`{fields.where}.{name}` must hold names out of {', '.join(kind)}") from None
    if len(set(found)) != len(found):
        raise MalformedError(f"`{fields.where}.{name}` must hold each name once")
    return found


def bits(fields: Fields, name: str, size: int) -> int:
    """Take a mask of ``size`` bytes as hex, most significant digit first.

    :raises MalformedError: another form.
    """
    text = fields.text(name, max_length=2 * size)
    if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
        raise MalformedError(f"`{fields.where}.{name}` must be {2 * size} lower-case hex digits")
    return int(text, 16)


def within(name: str, aspect: Aspect, seen: Iterable[str], allowed: Iterable[str]) -> Claim:
    """Claim that everything that was seen is allowed; nothing seen is fine."""
    found, listed = tuple(seen), tuple(allowed)
    return Claim(name, aspect, ", ".join(found) or said(""), f"only {_listed(listed)}", ok=set(found) <= set(listed))


def masked(name: str, seen: int, allowed: int, size: int) -> Claim:
    """Claim that no bit outside a mask is set."""
    wanted = f"only bits of {allowed:0{2 * size}x}"
    return Claim(name, Aspect.CONFIGURATION, f"{seen:0{2 * size}x}", wanted, ok=not seen & ~allowed)


def _flag(name: str, *, seen: bool | None, allowed: bool) -> Claim:
    # Processors of the first generation have no such flag, because they can't do it.
    told = "not stated" if seen is None else said(seen)
    return Claim(name, Aspect.HARDWARE, told, "yes or no" if allowed else "no", ok=allowed or not seen)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or "nothing"
