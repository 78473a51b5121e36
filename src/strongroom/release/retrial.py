"""A whole log judged again: what it says (:mod:`.chronicle`), and what it names (:mod:`.exhibits`). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.core.genesis import Genesis
from strongroom.personnel.roster import Roster
from strongroom.release.chronicle import Chronicle, Finding
from strongroom.release.exhibits import Exhibits, Scales

MAX_FINDINGS: Final = 1000
"""A log in which more is wrong than this is wrong; nobody reads the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it: how many entries were judged, what was wrong, and what became of the objects named."""

    judged: int
    findings: tuple[Finding, ...]
    disputes: tuple[tuple[int, str], ...]
    exhibits: dict[str, dict[str, int]] | None
    """By kind; None where nothing was handed in."""

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {
            "judged": self.judged,
            "findings": [finding.to_json() for finding in self.findings],
            "disputes": [{"index": index, "message": message} for index, message in self.disputes],
            "exhibits": self.exhibits,
        }


class Retrial:
    """Takes the entries of a verified log in order. ``exhibits`` is what was handed in, if anything was."""

    def __init__(self, genesis: Genesis, exhibits: Exhibits | None) -> None:
        self._chronicle = Chronicle()
        self._scales = None if exhibits is None else Scales(genesis, exhibits, self._chronicle.ledger)

    @property
    def over(self) -> bool:
        """Whether nothing more can be judged."""
        return self._chronicle.broken or len(self._chronicle.findings) >= MAX_FINDINGS

    @property
    def roster(self) -> Roster | None:
        """The roster in force after all entries so far; None where it wasn't handed in."""
        return None if self._scales is None else self._scales.documents.roster

    def take(self, index: int, entry: Entry, root: bytes) -> None:
        """Judge the next entry. ``root`` (32 bytes) is the log's root with this entry."""
        if self._scales is not None:
            for error in self._scales.weigh(index, entry):
                self._chronicle.findings.append(Finding(index=index, code=error.reason, message=error.message))
        self._chronicle.take(index, entry)
        self._chronicle.ledger.roots += root

    def verdict(self) -> Verdict:
        """Return what came of all entries so far."""
        scales = self._scales
        disputes = [*self._chronicle.disputes, *(() if scales is None else scales.disputes)]
        return Verdict(
            judged=self._chronicle.ledger.size,
            findings=tuple(self._chronicle.findings),
            disputes=tuple(sorted(disputes)),
            exhibits=None if scales is None else {kind: one.to_json() for kind, one in sorted(scales.tallies.items())},
        )
