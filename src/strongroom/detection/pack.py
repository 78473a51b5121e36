"""A pack of rules: canonical JSON, named by its digest, which may be signed by whoever answers for it.

What is loaded is data. Nothing in a pack is run, and a rule without an anchor (the events that it is about, by name) is
refused: it would be asked of every event, and an attacker who floods events would slow all other rules down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.signature import PublicKey
from strongroom.detection.expressions import anchors
from strongroom.detection.rules import Correlation, Rule

PACK_TYPE: Final = payload_type("detection-pack.v1")
ANCHOR: Final = "event"
MAX_PACK: Final = 32 << 20
MAX_RULES: Final = 5000


class UnanchoredRuleError(MalformedError):
    """A rule doesn't say by name which events it is about."""

    code = "detection-rule-unanchored"


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Rules and correlations, in the order in which their authors gave them."""

    name: str
    rules: tuple[Rule, ...]
    correlations: tuple[Correlation, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Pack:
        """Read canonical bytes.

        :raises MalformedError: another form, ids twice, or a reference to a rule that isn't there or comes later.
        :raises UnanchoredRuleError: a rule could match an event of any name.
        """
        with Fields(decode(data, max_bytes=MAX_PACK), "pack") as fields:
            fields.constant("v", 1)
            pack = cls(
                name=fields.text("name", max_length=96),
                rules=fields.objects("rules", Rule.read, most=MAX_RULES),
                correlations=fields.objects("correlations", Correlation.read, most=MAX_RULES),
            )
        pack.check()
        return pack

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "name": self.name,
                "rules": [rule.to_json() for rule in self.rules],
                "correlations": [correlation.to_json() for correlation in self.correlations],
            }
        )

    @cached_property
    def digest(self) -> Digest:
        """The digest of the canonical bytes: what the log names when the pack is loaded."""
        return Digest.of(self.to_bytes())

    @property
    def every(self) -> tuple[Rule | Correlation, ...]:
        """Rules, then correlations."""
        return (*self.rules, *self.correlations)

    def check(self) -> None:
        """Check what no rule can know alone; raises as :meth:`parse` does."""
        known: set[str] = set()
        for rule in self.rules:
            _new(rule.id, known)
            if anchors(rule.expression, ANCHOR) is None:
                raise UnanchoredRuleError(
                    f"rule `{rule.id}` doesn't name the events that it is about",
                    remedy=f"require `{ANCHOR}: <name>`, or one of several, in every way that the rule can match",
                )
        for correlation in self.correlations:
            correlation.check()
            named = [*correlation.rules, *correlation.without, *(r for g in correlation.group_by for r, _f in g.other)]
            missing = next((name for name in named if name not in known), None)
            if missing is not None:
                raise MalformedError(f"correlation `{correlation.id}` names `{missing}`, which isn't above it")
            _new(correlation.id, known)


def _new(name: str, known: set[str]) -> None:
    if name in known:
        raise MalformedError(f"the pack has two rules called `{name}`")
    known.add(name)


def open_pack(envelope: Envelope, trusted: Sequence[PublicKey], *, threshold: int = 1) -> Pack:
    """Return the pack that a trusted key signed.

    :raises SignatureError: fewer than ``threshold`` of ``trusted`` signed it.
    :raises MalformedError: it isn't a pack.
    """
    verify(envelope, PACK_TYPE, trusted, threshold=threshold)
    return Pack.parse(envelope.payload)
