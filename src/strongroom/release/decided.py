"""A decision as it is kept: the facts, every numbered step, and the outcome. Its digest stands in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.access.facts import MAX_FACTS, Facts
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError
from strongroom.core.fields import Fields
from strongroom.release.judge import Verdict
from strongroom.release.steps import Check

MAX_DECIDED: Final = 2 * MAX_FACTS
MAX_REFUSALS: Final = 1024
"""More than a dossier full of approvers can lack: a refusal that can't be read back could hide behind its length."""


class DecisionNotKeptError(NotFoundError):
    """The log may name the decision; the keeper doesn't have it, or no longer."""

    code = "decision-not-kept"

    def __init__(self) -> None:
        super().__init__("this decision isn't kept any more: erased with a person, or to make room for others")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One decision. ``others`` are further refusals: code, and what would pass."""

    facts: Facts
    allowed: bool
    checks: tuple[Check, ...]
    others: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, verdict: Verdict) -> Decided | None:
        """Return what is to be kept of a verdict; None when it was refused before there were facts to decide on."""
        if verdict.facts is None:
            return None
        return cls(
            facts=verdict.facts, allowed=verdict.allowed, checks=tuple(verdict.trace.checks), others=verdict.others
        )

    @classmethod
    def parse(cls, data: bytes) -> Decided:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_DECIDED), "decision") as fields:
            fields.constant("v", 1)
            return cls(
                facts=Facts.parse(encode(fields.value("facts"))),
                allowed=fields.boolean("allowed"),
                checks=fields.objects("checks", Check.read, most=64),
                others=fields.objects(
                    "others", lambda f: (f.text("reason"), f.text("remedy", max_length=4096)), most=MAX_REFUSALS
                ),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "facts": self.facts.to_json(),
                "allowed": self.allowed,
                "checks": [check.to_json() for check in self.checks],
                "others": [{"reason": reason, "remedy": remedy} for reason, remedy in self.others],
            }
        )

    @property
    def digest(self) -> Digest:
        """The name by which the log knows it."""
        return Digest.of(self.to_bytes())
