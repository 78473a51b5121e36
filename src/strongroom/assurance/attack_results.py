"""What the attack suite found: each attack's outcome, and what the next layer stops when one is turned off."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.framework.ids import CategoryId, MeasureId, VectorId, category_id, measure_id, vector_id
from strongroom.framework.levels import OperationalCapacity

MAX_ATTACKS: Final = 512
MAX_LAYERS: Final = 64


class Outcome(StrEnum):
    """How an attack ended."""

    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    BROKEN = "broken"
    """It ended in a way that it didn't foresee, or its honest control case failed: it counts for nothing."""
    NOT_RUN = "not-run"
    """Something that it needs isn't on this machine; ``detail`` says what."""

    @property
    def executed(self) -> bool:
        """Whether the attack really took place. What broke, or wasn't run, counts for nothing."""
        return self in {Outcome.BLOCKED, Outcome.UNBLOCKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """One attack that was executed, or wasn't.

    :ivar attack: its id, e.g. ``self-approval``. ``title``: one line, what was tried.
    :ivar vectors: RAND's vectors that it acts out. ``capacity``: the lowest class of attacker that could.
    :ivar refusal: the stable error code that it was refused with; nothing where it wasn't.
    :ivar detected: whether a trace was found afterwards; ``signal`` says which: a log event, or an alert's rule.
    :ivar measures: RAND's measures that stopped or showed it. ``layers``: the named layers that did.
    :ivar micros: microseconds from the attack's first act to the refusal.
    """

    attack: str
    title: str
    vectors: tuple[VectorId, ...]
    capacity: OperationalCapacity
    outcome: Outcome
    refusal: str
    detected: bool
    signal: str
    measures: tuple[MeasureId, ...]
    layers: tuple[str, ...]
    micros: int
    detail: str = ""

    @property
    def categories(self) -> tuple[CategoryId, ...]:
        """RAND's categories of its vectors."""
        return tuple(dict.fromkeys(category_id(vector.partition("-")[0]) for vector in self.vectors))

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "attack": self.attack,
            "capacity": self.capacity.value,
            "detail": self.detail,
            "detected": self.detected,
            "layers": [*self.layers],
            "measures": [*self.measures],
            "micros": self.micros,
            "outcome": self.outcome.value,
            "refusal": self.refusal,
            "signal": self.signal,
            "title": self.title,
            "vectors": [*self.vectors],
        }

    @classmethod
    def read(cls, f: Fields) -> AttackResult:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            attack=f.text("attack", max_length=64),
            title=f.text("title"),
            vectors=tuple(vector_id(text) for text in f.texts("vectors", most=38)),
            capacity=f.parsed("capacity", OperationalCapacity),
            outcome=f.parsed("outcome", Outcome),
            refusal=f.text("refusal", max_length=64),
            detected=f.boolean("detected"),
            signal=f.text("signal"),
            measures=tuple(measure_id(text) for text in f.texts("measures", most=64)),
            layers=f.texts("layers", most=MAX_LAYERS, max_length=64),
            micros=f.integer("micros"),
            detail=f.text("detail", max_length=1024),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTrial:
    """The suite with one layer turned off: which of the attacks that it stops, others still stopped."""

    layer: str
    stopped: tuple[str, ...]
    passed: tuple[str, ...]

    @property
    def independent(self) -> bool:
        """Whether whatever it stops is stopped by another layer too, at least one attack having been tried."""
        return bool(self.stopped) and not self.passed

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"layer": self.layer, "passed": [*self.passed], "stopped": [*self.stopped]}

    @classmethod
    def read(cls, f: Fields) -> LayerTrial:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            layer=f.text("layer", max_length=64),
            stopped=f.texts("stopped", most=MAX_ATTACKS, max_length=64),
            passed=f.texts("passed", most=MAX_ATTACKS, max_length=64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackRun:
    """One run of the suite. ``live`` tells whether the deployment itself was attacked, or a scratch copy."""

    at: Instant
    version: str
    live: bool
    results: tuple[AttackResult, ...]
    trials: tuple[LayerTrial, ...] = ()

    def __post_init__(self) -> None:
        # One attack or layer named twice would be counted twice.
        if len({one.attack for one in self.results}) != len(self.results):
            raise MalformedError("the attack run has two results of one attack")
        if len({one.layer for one in self.trials}) != len(self.trials):
            raise MalformedError("the attack run has two trials of one layer")

    @property
    def digest(self) -> Digest:
        """Digest of its canonical JSON."""
        return Digest.of(self.to_bytes())

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "at": format_instant(self.at),
            "live": self.live,
            "results": [result.to_json() for result in self.results],
            "trials": [trial.to_json() for trial in self.trials],
            "version": self.version,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON: what `strongroom attack run --json` prints and `strongroom assess` reads."""
        return encode(self.to_json())

    @classmethod
    def read(cls, f: Fields) -> AttackRun:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            at=f.instant("at"),
            version=f.text("version", max_length=64),
            live=f.boolean("live"),
            results=f.objects("results", AttackResult.read, most=MAX_ATTACKS),
            trials=f.objects("trials", LayerTrial.read, most=MAX_LAYERS),
        )

    @classmethod
    def parse(cls, data: bytes) -> AttackRun:
        """Read JSON text.

        :raises MalformedError: not JSON, or another form.
        """
        with Fields(parse(data), "attack run") as fields:
            return cls.read(fields)
