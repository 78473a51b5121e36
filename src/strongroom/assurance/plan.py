"""The security plan: what is to be protected, from whom, up to which level, by whom and until when.

The report puts it first: without a goal there is nothing to measure by. It is data that root or security people sign,
and each assessment is compared with it. Serves RAND measure SL3-ARA-01.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.assurance.errors import StatementInvalidError
from strongroom.assurance.findings import Finding
from strongroom.assurance.statements import Attestors, signers_of
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId, model_id, person_id
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId, measure_id
from strongroom.framework.levels import OperationalCapacity, SecurityLevel

PLAN_TYPE: Final = payload_type("security-plan.v1")
PLAN_SIGNERS: Final = 2
"""Who wrote it, and who reviewed it."""
MAX_PLAN: Final = 256 * 1024
MAX_TASKS: Final = 512
MAX_ASSETS: Final = 512
MAX_ACTORS: Final = 64
MAX_TEXT: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A model to be protected, and why."""

    model: ModelId
    why: str

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"model": self.model, "why": self.why}

    @classmethod
    def read(cls, f: Fields) -> Asset:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(model=f.parsed("model", model_id), why=f.text("why", max_length=MAX_TEXT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who may want it, by operational capacity."""

    capacity: OperationalCapacity
    who: str

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"capacity": self.capacity.value, "who": self.who}

    @classmethod
    def read(cls, f: Fields) -> Actor:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(capacity=f.parsed("capacity", OperationalCapacity), who=f.text("who", max_length=MAX_TEXT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A measure, who answers for it, and until when it will be met.

    :ivar effort: 1 (a command) to 5 (a project of months).
    """

    measure: MeasureId
    owner: PersonId
    due: Instant
    effort: int
    note: str = ""

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "due": format_instant(self.due),
            "effort": self.effort,
            "measure": self.measure,
            "note": self.note,
            "owner": self.owner,
        }

    @classmethod
    def read(cls, f: Fields) -> Task:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        return cls(
            measure=f.parsed("measure", measure_id),
            owner=f.parsed("owner", person_id),
            due=f.instant("due"),
            effort=f.integer("effort", least=1, most=5),
            note=f.text("note", max_length=MAX_TEXT),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPlan:
    """The plan as of one review. ``serial`` rises by one with each."""

    genesis: Digest
    serial: int
    reviewed: Instant
    goal: SecurityLevel
    assets: tuple[Asset, ...]
    actors: tuple[Actor, ...]
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        if len({task.measure for task in self.tasks}) != len(self.tasks):
            raise MalformedError("the plan has two tasks for one measure")
        if len({asset.model for asset in self.assets}) != len(self.assets):
            raise MalformedError("the plan names a model twice")

    @classmethod
    def parse(cls, data: bytes) -> SecurityPlan:
        """Read canonical bytes.

        :raises MalformedError: another form, or a measure or model twice.
        """
        with Fields(decode(data, max_bytes=MAX_PLAN), "plan") as f:
            f.constant("v", 1)
            return cls(
                genesis=f.digest("genesis"),
                serial=f.integer("serial", least=1),
                reviewed=f.instant("reviewed"),
                goal=f.parsed("goal", SecurityLevel),
                assets=f.objects("assets", Asset.read, most=MAX_ASSETS),
                actors=f.objects("actors", Actor.read, most=MAX_ACTORS),
                tasks=f.objects("tasks", Task.read, most=MAX_TASKS),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return encode(
            {
                "actors": [actor.to_json() for actor in self.actors],
                "assets": [asset.to_json() for asset in self.assets],
                "genesis": str(self.genesis),
                "goal": self.goal.value,
                "reviewed": format_instant(self.reviewed),
                "serial": self.serial,
                "tasks": [task.to_json() for task in self.tasks],
                "v": 1,
            }
        )


def verify_plan(envelope: Envelope, attestors: Attestors, *, genesis: Digest) -> SecurityPlan:
    """Check a signed plan.

    :param attestors: the keys of those whose statements count today.
    :raises SignatureError: a signature doesn't verify, or the envelope holds something else.
    :raises MalformedError: another form.
    :raises StatementInvalidError: too few attestors signed it, or it is another deployment's.
    """
    people = signers_of(envelope, PLAN_TYPE, attestors)
    if len(people) < PLAN_SIGNERS:
        raise StatementInvalidError(
            f"{len(people)} attestors signed the plan; {PLAN_SIGNERS} have to, its author and a reviewer",
            reason="plan-signers-missing",
            remedy="have another attestor sign it: strongroom assess plan sign",
        )
    plan = SecurityPlan.parse(envelope.payload)
    if plan.genesis != genesis:
        raise StatementInvalidError("the plan is another deployment's", reason="statement-elsewhere")
    return plan


def differences(
    plan: SecurityPlan, gaps: tuple[Finding, ...], models: tuple[ModelId, ...], now: Instant
) -> tuple[str, ...]:
    """Return how the plan and what was found differ, one sentence each; ``gaps`` are those up to the plan's goal."""
    return tuple(_differ(plan, gaps, models, now))


def _differ(plan: SecurityPlan, gaps: tuple[Finding, ...], models: tuple[ModelId, ...], now: Instant) -> Iterator[str]:
    named, open_ = {task.measure: task for task in plan.tasks}, {gap.measure for gap in gaps}
    for model in sorted(set(models) - {asset.model for asset in plan.assets}):
        yield f"model `{model}` isn't in the plan"
    for model in sorted({asset.model for asset in plan.assets} - set(models)):
        yield f"model `{model}` is in the plan and not in the policy"
    strongest = max((actor.capacity.rank for actor in plan.actors), default=0)
    if strongest > plan.goal.rank:
        yield f"the plan names attackers of OC{strongest}, and aims at {plan.goal} only"
    for gap in gaps:
        task = named.get(gap.measure)
        if task is None:
            yield f"{gap.measure} is {gap.state.value}, and nobody owns it"
        elif task.due < now:
            yield f"{gap.measure} is {gap.state.value}, and was due from `{task.owner}` on {format_instant(task.due)}"
    for measure in sorted(named.keys() - open_):
        yield f"{measure} has a task, and is no gap any more"


def draft(
    genesis: Digest,
    goal: SecurityLevel,
    models: tuple[ModelId, ...],
    gaps: tuple[Finding, ...],
    catalogue: Catalogue,
    *,
    owner: PersonId,
    now: Instant,
    before: SecurityPlan | None = None,
) -> SecurityPlan:
    """Return the next plan: each gap with an owner and a date by its effort; what the one before says is kept.

    :param owner: of what has no owner yet.
    """
    known = {} if before is None else {task.measure: task for task in before.tasks}
    capacity = catalogue.level(goal).capacity
    tasks = []
    for gap in gaps:
        effort = 3 if gap.step is None else gap.step.effort
        note = "" if gap.step is None else gap.step.text
        fresh = Task(measure=gap.measure, owner=owner, due=now + _SECONDS[effort], effort=effort, note=note)
        tasks.append(known.get(gap.measure, fresh))
    said = {} if before is None else {asset.model: asset for asset in before.assets}
    actors = before.actors if before else (Actor(capacity=capacity, who=catalogue.capacities[capacity].title),)
    return SecurityPlan(
        genesis=genesis,
        serial=1 if before is None else before.serial + 1,
        reviewed=now,
        goal=goal,
        assets=tuple(said.get(model, Asset(model=model, why="to be said")) for model in models),
        actors=actors,
        tasks=tuple(tasks),
    )


_SECONDS: Final = {1: 7 * 86400, 2: 30 * 86400, 3: 90 * 86400, 4: 180 * 86400, 5: 365 * 86400}
"""Until when a gap of an effort is due, from the day that it is first written down."""
