"""One assessment: what was seen, what was found, what was attested, and which level that carries. Signed as a whole.

Whoever has one can judge again from its observations: :meth:`Assessment.check` does, and refuses one whose findings or
level don't follow from what it says was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.assurance.attack_results import AttackRun
from strongroom.assurance.findings import Finding
from strongroom.assurance.judging import judge
from strongroom.assurance.levels import HIGHEST, gaps, held
from strongroom.assurance.observations import Observation
from strongroom.assurance.statements import MAX_STATEMENTS, Attested
from strongroom.assurance.thresholds import Thresholds
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import SecurityLevel

ASSESSMENT_TYPE: Final = payload_type("assessment.v1")
MAX_ASSESSMENT: Final = 16 << 20
MAX_OBSERVATIONS: Final = 1024
MAX_FINDINGS: Final = 512
_NONE: Final = "none"
_OF_ATTACKS: Final = frozenset({"attacks.suite", "attacks.layers"})


class UnfoundedAssessmentError(TamperedError):
    """An assessment says more than its own observations and statements carry."""

    code = "assessment-unfounded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The whole of it.

    :ivar held: the highest level held; None: not even SL1.
    :ivar log_size: entries of the verified log; ``log_root`` is its root then. None where no log was read.
    :ivar version: of this software.
    """

    genesis: Digest
    deployment: str
    at: Instant
    goal: SecurityLevel
    held: SecurityLevel | None
    version: str
    limits: Thresholds
    log_size: int | None
    log_root: Digest | None
    observations: tuple[Observation, ...]
    statements: tuple[Attested, ...]
    findings: Mapping[MeasureId, Finding]
    attacks: AttackRun | None = None

    @property
    def digest(self) -> Digest:
        """What the log names."""
        return Digest.of(self.to_bytes())

    @property
    def models(self) -> tuple[ModelId, ...]:
        """The models of the policy in force, as they were looked at."""
        looked = (one.subject for one in self.observations if one.collector == "egress.model")
        return tuple(model_id(subject.removeprefix("model:")) for subject in looked)

    def gaps(self, catalogue: Catalogue) -> tuple[Finding, ...]:
        """Return what keeps the goal from being held, the cheapest step of the lowest level first."""
        return gaps(self.findings, catalogue, self.goal)

    def check(self, catalogue: Catalogue) -> None:
        """Judge again, and compare.

        Whether people signed the statements isn't seen here: their own files show it.

        :raises UnfoundedAssessmentError: a finding or the level doesn't follow from what was seen, or a statement
            wasn't in force.
        """
        for one in self.statements:
            said = one.statement
            if not said.at <= self.at < said.expires or len(set(one.signers)) < said.claim.signers:
                raise UnfoundedAssessmentError(f"the statement on `{said.measure}` didn't count at that time")
        self._check_attacks()
        again = judge(self.observations, self.statements, catalogue, limits=self.limits, now=self.at)
        if dict(again) != dict(self.findings):
            wrong = next((name for name in again if again[name] != self.findings.get(name)), "a measure")
            raise UnfoundedAssessmentError(f"the finding on `{wrong}` doesn't follow from the observations")
        if held(self.findings, catalogue) is not self.held:
            raise UnfoundedAssessmentError("the level doesn't follow from the findings")

    def _check_attacks(self) -> None:
        report = None if self.attacks is None else str(self.attacks.digest)
        for one in self.observations:
            if one.collector in _OF_ATTACKS and one.facts and one.facts.get("report") != report:
                raise UnfoundedAssessmentError("what is said of attacks is of another report than the one that is here")

    def again(self, catalogue: Catalogue, now: Instant) -> Assessment:
        """Return what the same observations and statements carry at a later time: those that expired, nothing."""
        return assess(
            self.observations,
            (one for one in self.statements if one.statement.at <= now < one.statement.expires),
            catalogue,
            genesis=self.genesis,
            deployment=self.deployment,
            goal=self.goal,
            limits=self.limits,
            version=self.version,
            now=now,
            log=None if self.log_size is None or self.log_root is None else (self.log_size, self.log_root),
            attacks=self.attacks,
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "at": format_instant(self.at),
            "attacks": None if self.attacks is None else self.attacks.to_json(),
            "deployment": self.deployment,
            "findings": [finding.to_json() for finding in self.findings.values()],
            "genesis": str(self.genesis),
            "goal": self.goal.value,
            "held": _NONE if self.held is None else self.held.value,
            "limits": self.limits.to_json(),
            "log_root": None if self.log_root is None else str(self.log_root),
            "log_size": self.log_size,
            "observations": [one.to_json() for one in self.observations],
            "statements": [one.to_json() for one in self.statements],
            "v": 1,
            "version": self.version,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON: what is signed, and what the log names by its digest."""
        return encode(self.to_json())

    @classmethod
    def parse(cls, data: bytes) -> Assessment:
        """Read JSON text. Nothing of it is believed for that: :meth:`check` judges again.

        :raises MalformedError: not JSON, another form, or a measure twice.
        """
        with Fields(parse(data, max_bytes=MAX_ASSESSMENT), "assessment") as f:
            f.constant("v", 1)
            genesis = f.digest("genesis")
            level = f.text("held", max_length=8)
            with f.child("limits") as limits:
                thresholds = Thresholds.read(limits)
            findings = f.objects("findings", Finding.read, most=MAX_FINDINGS)
            made = cls(
                genesis=genesis,
                deployment=f.text("deployment", max_length=64),
                at=f.instant("at"),
                goal=f.parsed("goal", SecurityLevel),
                held=None if level == _NONE else _level(level),
                version=f.text("version", max_length=64),
                limits=thresholds,
                log_size=f.integer("log_size") if f.optional("log_size") else None,
                log_root=f.digest("log_root") if f.optional("log_root") else None,
                observations=f.objects("observations", Observation.read, most=MAX_OBSERVATIONS),
                statements=f.objects("statements", lambda one: Attested.read(one, genesis), most=MAX_STATEMENTS),
                findings=MappingProxyType({finding.measure: finding for finding in findings}),
                attacks=_attacks(f),
            )
        if len(made.findings) != len(findings):
            raise MalformedError("the assessment has two findings on one measure")
        return made


def assess(
    observations: Iterable[Observation],
    statements: Iterable[Attested],
    catalogue: Catalogue,
    *,
    genesis: Digest,
    deployment: str,
    goal: SecurityLevel,
    limits: Thresholds,
    version: str,
    now: Instant,
    log: tuple[int, Digest] | None = None,
    attacks: AttackRun | None = None,
) -> Assessment:
    """Judge everything at one time.

    :param statements: verified and in force.
    """
    looks, words = tuple(observations), tuple(statements)
    findings = judge(looks, words, catalogue, limits=limits, now=now)
    return Assessment(
        genesis=genesis,
        deployment=deployment,
        at=now,
        goal=goal,
        held=held(findings, catalogue),
        version=version,
        limits=limits,
        log_size=None if log is None else log[0],
        log_root=None if log is None else log[1],
        observations=looks,
        statements=words,
        findings=MappingProxyType(dict(findings)),
        attacks=attacks,
    )


def _level(text: str) -> SecurityLevel:
    for level in HIGHEST.up_to():
        if level.value == text:
            return level
    raise MalformedError("an assessment holds `none`, or `SL1` to `SL4`")


def _attacks(f: Fields) -> AttackRun | None:
    if not f.optional("attacks"):
        return None
    with f.child("attacks") as child:
        return AttackRun.read(child)
