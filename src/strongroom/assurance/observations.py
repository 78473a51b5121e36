"""What a collector saw: facts with where they come from, when, and until when they count.

An observation claims no more than its facts. What they mean for a measure is for :mod:`strongroom.assurance.checks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

Fact = str | int | bool | tuple[str, ...]
"""A fact: a text, a number (its unit ends its name: ``_days``, ``_bits``), true or false, or a list of names."""

MAX_FACTS: Final = 64
MAX_NAMES: Final = 128
MAX_TEXT: Final = 512
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?")


class Method(StrEnum):
    """How it was seen; later ones are harder to fake for who runs the deployment."""

    TOLD = "told"
    """The deployment said so over its API; nothing else vouches for it."""
    READ = "read"
    """Read on this machine: from the kernel or a file."""
    REPLAYED = "replayed"
    """From the log, verified against the pinned genesis, or from documents that the log names."""
    TRIED = "tried"
    """Something was attempted, and this happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One collector's look at one subject.

    :ivar collector: which collector, e.g. ``host.memory``. ``version``: of its code, 1 and up.
    :ivar configuration: digest of the settings that it looked with (:mod:`strongroom.assurance.thresholds`).
    :ivar subject: what it looked at, e.g. ``host``, ``deployment``, ``model:atlas-7b``.
    :ivar at: when; it counts for nothing from ``expires`` on.
    :ivar missing: why nothing could be seen; then there are no facts.
    :ivar log_index: entries that the verified log had then; None where the log plays no part.
    """

    collector: str
    version: int
    configuration: Digest
    subject: str
    method: Method
    at: Instant
    expires: Instant
    facts: Mapping[str, Fact] = field(default_factory=lambda: MappingProxyType({}))
    missing: str = ""
    log_index: int | None = None

    @property
    def digest(self) -> Digest:
        """The observation's name: the digest of its canonical JSON."""
        return Digest.of(encode(self.to_json()))

    def fresh(self, now: Instant) -> bool:
        """Tell whether it counts at ``now``. One from the future doesn't: a clock was moved."""
        return self.at <= now < self.expires

    def to_json(self) -> Json:
        """Return the JSON form; ``read`` reads it back."""
        return {
            "at": format_instant(self.at),
            "collector": self.collector,
            "configuration": str(self.configuration),
            "expires": format_instant(self.expires),
            "facts": {name: [*fact] if isinstance(fact, tuple) else fact for name, fact in self.facts.items()},
            "log_index": self.log_index,
            "method": self.method.value,
            "missing": self.missing,
            "subject": self.subject,
            "version": self.version,
        }

    @classmethod
    def read(cls, f: Fields) -> Observation:
        """Read the JSON form.

        :raises MalformedError: another form, or more than the limits of this module.
        """
        return cls(
            collector=f.parsed("collector", _named),
            version=f.integer("version", least=1, most=10_000),
            configuration=f.digest("configuration"),
            subject=f.text("subject"),
            method=f.parsed("method", Method),
            at=f.instant("at"),
            expires=f.instant("expires"),
            facts=_facts(f),
            missing=f.text("missing", max_length=MAX_TEXT),
            log_index=f.integer("log_index") if f.optional("log_index") else None,
        )


def _named(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise MalformedError("a collector or fact is named with a-z, 0-9, `.`, `_` and `-`")
    return text


def _facts(f: Fields) -> Mapping[str, Fact]:
    with f.child("facts") as facts:
        found: dict[str, Fact] = {}
        for name in facts.names(most=MAX_FACTS):
            found[_named(name)] = _fact(facts, name)
    return MappingProxyType(found)


def _fact(facts: Fields, name: str) -> Fact:
    value = facts.value(name)
    if isinstance(value, bool | int) or (isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()):
        return value
    if isinstance(value, list) and len(value) <= MAX_NAMES:
        texts = tuple(one for one in value if isinstance(one, str) and len(one) <= MAX_TEXT and one.isprintable())
        if len(texts) == len(value):
            return texts
    raise MalformedError(f"`{facts.where}.{name}` must be a text, a number, true, false or a list of texts")
