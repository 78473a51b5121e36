"""The release policy: Cedar text, a rule for each action and security level, and what each model demands.

One document, signed by the root quorum, with a rising epoch. Whoever could change a rule alone could release alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.access.request import Action
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId, model_id, person_id
from strongroom.framework.levels import SecurityLevel

POLICY_TYPE: Final = payload_type("policy.v1")
MAX_RULES: Final = 64
MAX_MODELS: Final = 4096
MAX_FACTORS: Final = 8
MAX_APPROVALS: Final = 32
"""Approvals of one request that are looked at."""
MAX_QUORUM: Final = MAX_APPROVALS - 3
"""People that a rule's factors ask for. A destruction, an overdue review and a precaution ask for one more each, and
a rule that no number of approvals could fill would lock a model up for ever."""
MAX_CEDAR: Final = 65536
MAX_WITNESSES: Final = 131072
"""Characters of a trust policy: room for three dozen witnesses with post-quantum keys."""
WITNESS_SECONDS: Final = 900
"""How old the witnesses' word on the log may be, unless the policy says otherwise."""
MAX_RESPONDERS: Final = 64
HEARTBEAT_SECONDS: Final = 60
"""How old a responder's heartbeat may be, in a policy that is drafted without another number."""
MAX_HEARTBEAT_AGE: Final = 3600


class NoRuleError(NotFoundError):
    """The policy has no rule for this action at this level, or doesn't know the model. Nothing is allowed."""

    code = "no-rule"


class Weights(StrEnum):
    """What a model's weights are worth, as the root quorum says."""

    PRODUCTION = "production"
    """Evidence may serve them up to the level that its isolation class supports; simulated evidence never."""
    TEST = "test"
    """Worth nothing to anybody: no level is vouched for, and simulated evidence will do. Loud in every record."""


class Unit(StrEnum):
    """Which organisation unit a factor wants."""

    ANY = "any"
    OWNER = "owner"
    """The unit that owns the model."""
    OTHER = "other"
    """Another unit than the requester's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """``count`` approvals by people who hold ``role`` and are of ``unit``. Factors are ANDed over distinct people."""

    role: str
    count: int
    unit: Unit = Unit.ANY

    @classmethod
    def read(cls, fields: Fields) -> Factor:
        """Read one factor."""
        return cls(
            role=fields.text("role", max_length=48),
            count=fields.integer("count", least=1, most=16),
            unit=fields.parsed("unit", Unit),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"role": self.role, "count": self.count, "unit": self.unit.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who must agree to an action at a security level, what they must bring, and within which limits."""

    action: Action
    level: SecurityLevel
    requester_role: str
    factors: tuple[Factor, ...]
    requester_tier: int
    approver_tier: int
    max_window: int
    """Longest allowed time between ``not_before`` and ``expires``, in seconds."""
    max_uses: int
    approval_life: int = 86400
    """How old an approval may be, in seconds, when the grant is issued: old agreement is no agreement."""
    delay: int = 0
    """Cooling-off: seconds between the recording of a request and its first use."""
    hardware: bool = False
    """Requester and approvers sign with security keys that verified their user."""
    nda: bool = False
    courses: tuple[str, ...] = ()
    """Training that requester and approvers must have current."""

    @property
    def quorum(self) -> int:
        """How many people must agree, besides the requester."""
        return sum(factor.count for factor in self.factors)

    @classmethod
    def read(cls, fields: Fields) -> Rule:
        """Read one rule.

        :raises MalformedError: another form, or factors that ask for more people than are ever looked at.
        """
        rule = cls(
            action=fields.parsed("action", Action),
            level=fields.parsed("level", SecurityLevel),
            requester_role=fields.text("requester_role", max_length=48),
            factors=fields.objects("factors", Factor.read, most=MAX_FACTORS),
            requester_tier=fields.integer("requester_tier", most=5),
            approver_tier=fields.integer("approver_tier", most=5),
            max_window=fields.integer("max_window", least=1, most=366 * 86400),
            max_uses=fields.integer("max_uses", least=1, most=1_000_000),
            approval_life=fields.integer("approval_life", least=1, most=366 * 86400),
            delay=fields.integer("delay", most=366 * 86400),
            hardware=fields.boolean("hardware"),
            nda=fields.boolean("nda"),
            courses=fields.texts("courses", most=16, max_length=48),
        )
        if rule.quorum > MAX_QUORUM:
            raise MalformedError(f"`{fields.where}.factors` ask for {rule.quorum} people; {MAX_QUORUM} are the most")
        return rule

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "action": self.action.value,
            "level": self.level.value,
            "requester_role": self.requester_role,
            "factors": [factor.to_json() for factor in self.factors],
            "requester_tier": self.requester_tier,
            "approver_tier": self.approver_tier,
            "max_window": self.max_window,
            "max_uses": self.max_uses,
            "approval_life": self.approval_life,
            "delay": self.delay,
            "hardware": self.hardware,
            "nda": self.nda,
            "courses": [*self.courses],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTerms:
    """What one model demands: its security level, the least isolation that may hold it, its worth, and whose it is."""

    model: ModelId
    level: SecurityLevel
    least_isolation: str
    weights: Weights = Weights.PRODUCTION
    """Must stand in every signed policy; what is only made here is production until somebody says otherwise."""
    collection: str = ""
    """A set of models that Cedar policies can speak of; empty for none."""
    owner: str = ""
    """The organisation unit that owns the model; empty for none."""
    export: bool = False
    """Whether the data key may ever be handed to a person."""
    recoverable: bool = True
    """Whether custodians' shares may ever open it. If not, its keys are in no share and no key package, and are lost
    with the key service or the keeper's machine. A model's KEK keeps what it was made with until it is rotated."""
    copy_of: ModelId | None = None
    """The model whose weights it bears with a recipient's mark in their low bits: consent to that, and the list of all
    recipients whom a leak can be traced to. Who seals a copy holds to it; the keeper sees no weights."""

    @classmethod
    def read(cls, fields: Fields) -> ModelTerms:
        """Read one model's terms.

        :raises MalformedError: another form, or a copy of itself.
        """
        terms = cls(
            model=fields.parsed("model", model_id),
            level=fields.parsed("level", SecurityLevel),
            least_isolation=fields.text("least_isolation", max_length=32),
            weights=fields.parsed("weights", Weights),
            collection=fields.text("collection", max_length=64),
            owner=fields.text("owner", max_length=64),
            export=fields.boolean("export"),
            recoverable=fields.boolean("recoverable"),
            copy_of=fields.parsed("copy_of", model_id) if fields.optional("copy_of") else None,
        )
        if terms.copy_of == terms.model:
            raise MalformedError(f"model `{terms.model}` is named as a copy of itself")
        return terms

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "model": self.model,
            "level": self.level.value,
            "least_isolation": self.least_isolation,
            "weights": self.weights.value,
            "collection": self.collection,
            "owner": self.owner,
            "export": self.export,
            "recoverable": self.recoverable,
            **({} if self.copy_of is None else {"copy_of": self.copy_of}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many people may hold live grants of a class of access to models at SL3 and above.

    The defaults are RAND's for SL3 (RRA2849-1): more than these the invariants never allow.
    """

    output: int = 100
    isolated: int = 50
    copy: int = 20

    @classmethod
    def read(cls, fields: Fields) -> Caps:
        """Read the caps; a policy may lower them."""
        with fields:
            return cls(
                output=fields.integer("output", most=100),
                isolated=fields.integer("isolated", most=50),
                copy=fields.integer("copy", most=20),
            )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"output": self.output, "isolated": self.isolated, "copy": self.copy}


RAND_CAPS: Final = Caps()


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelAge:
    """A shorter age for models of one level."""

    level: SecurityLevel
    max_age_seconds: int

    @classmethod
    def read(cls, fields: Fields) -> LevelAge:
        """Read one."""
        return cls(
            level=fields.parsed("level", SecurityLevel),
            max_age_seconds=fields.integer("max_age_seconds", least=10, most=86400),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"level": self.level.value, "max_age_seconds": self.max_age_seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnesses:
    """Who must have seen the log lately before anything is released: a C2SP tlog-policy, and how long ago at most.

    The text is read where the log is known, by :mod:`strongroom.release.witnesses`.
    """

    policy: str
    max_age_seconds: int = WITNESS_SECONDS
    levels: tuple[LevelAge, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> Witnesses:
        """Read the section.

        :raises MalformedError: another form, or a level that stands twice or is allowed more than the rest.
        """
        with fields:
            text = fields.value("policy")
            if not isinstance(text, str) or len(text) > MAX_WITNESSES:
                raise MalformedError(f"`policy.witnesses.policy` must be text of at most {MAX_WITNESSES} characters")
            found = cls(
                policy=text,
                max_age_seconds=fields.integer("max_age_seconds", least=10, most=86400),
                levels=fields.objects("levels", LevelAge.read, most=len(SecurityLevel)),
            )
        if len({one.level for one in found.levels}) != len(found.levels):
            raise MalformedError("the policy's witnesses have two ages for one level")
        if any(one.max_age_seconds > found.max_age_seconds for one in found.levels):
            raise MalformedError("the policy's witnesses may be older at a level than elsewhere")
        return found

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "policy": self.policy,
            "max_age_seconds": self.max_age_seconds,
            "levels": [one.to_json() for one in self.levels],
        }

    def max_age(self, level: SecurityLevel) -> int:
        """Return how many seconds old the witnesses' word may be for a model of a level."""
        return min((one.max_age_seconds for one in self.levels if one.level is level), default=self.max_age_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMan:
    """Responders of the roster, each of whom must have been heard lately, or nothing is released or renewed."""

    responders: tuple[PersonId, ...]
    max_age_seconds: int = HEARTBEAT_SECONDS

    @classmethod
    def read(cls, fields: Fields) -> DeadMan:
        """Read the section.

        :raises MalformedError: another form, nobody, or somebody twice.
        """
        with fields:
            found = cls(
                responders=tuple(map(person_id, fields.texts("responders", most=MAX_RESPONDERS))),
                max_age_seconds=fields.integer("max_age_seconds", least=10, most=MAX_HEARTBEAT_AGE),
            )
        if not found.responders or len(set(found.responders)) != len(found.responders):
            raise MalformedError("`policy.dead_man` names at least one responder, and each once")
        return found

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"responders": [*self.responders], "max_age_seconds": self.max_age_seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The release policy of one epoch."""

    genesis: Digest
    epoch: int
    predecessor: Digest | None
    cedar: str
    rules: tuple[Rule, ...]
    models: tuple[ModelTerms, ...]
    caps: Caps = RAND_CAPS
    witnesses: Witnesses | None = None
    """None: nobody outside has to have seen the log."""
    dead_man: DeadMan | None = None
    """None: keys are released whether or not anybody watches."""

    @classmethod
    def parse(cls, payload: bytes) -> Policy:
        """Read canonical bytes. The caller has checked the root quorum's signatures.

        :raises MalformedError: a wrong form, or two rules or terms for one thing.
        """
        with Fields(decode(payload), "policy") as fields:
            fields.constant("v", 1)
            cedar = fields.value("cedar")
            if not isinstance(cedar, str) or len(cedar) > MAX_CEDAR:
                raise MalformedError(f"`policy.cedar` must be text of at most {MAX_CEDAR} characters")
            policy = cls(
                genesis=fields.digest("genesis"),
                epoch=fields.integer("epoch", least=1),
                predecessor=fields.digest("predecessor") if fields.optional("predecessor") else None,
                cedar=cedar,
                rules=fields.objects("rules", Rule.read, most=MAX_RULES),
                models=fields.objects("models", ModelTerms.read, most=MAX_MODELS),
                caps=Caps.read(fields.child("caps")),
                witnesses=Witnesses.read(fields.child("witnesses")) if fields.optional("witnesses") else None,
                dead_man=DeadMan.read(fields.child("dead_man")) if fields.optional("dead_man") else None,
            )
        keys = [(rule.action, rule.level) for rule in policy.rules]
        names = [terms.model for terms in policy.models]
        if len(set(keys)) != len(keys) or len(set(names)) != len(names):
            raise MalformedError("the policy has two rules for one action and level, or one model twice")
        if (policy.epoch == 1) is not (policy.predecessor is None):
            raise MalformedError("only the first policy, epoch 1, has no predecessor")
        return policy

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the root quorum signs."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "epoch": self.epoch,
                "predecessor": str(self.predecessor) if self.predecessor else None,
                "cedar": self.cedar,
                "rules": [rule.to_json() for rule in self.rules],
                "models": [terms.to_json() for terms in self.models],
                "caps": self.caps.to_json(),
                **({} if self.witnesses is None else {"witnesses": self.witnesses.to_json()}),
                **({} if self.dead_man is None else {"dead_man": self.dead_man.to_json()}),
            }
        )

    def terms(self, model: ModelId) -> ModelTerms:
        """Return what a model demands.

        :raises NoRuleError: the policy doesn't name the model.
        """
        for terms in self.models:
            if terms.model == model:
                return terms
        raise NoRuleError(
            f"the policy has no terms for model `{model}`", remedy="add the model to the policy and have it signed"
        )

    def copies_of(self, model: ModelId) -> tuple[ModelId, ...]:
        """Return the models that are marked copies of one."""
        return tuple(terms.model for terms in self.models if terms.copy_of == model)

    def rule(self, action: Action, level: SecurityLevel) -> Rule:
        """Return the rule for an action at a level.

        :raises NoRuleError: there is none.
        """
        for rule in self.rules:
            if rule.action is action and rule.level is level:
                return rule
        raise NoRuleError(f"the policy has no rule for `{action.value}` at {level.value}")

    @property
    def level(self) -> SecurityLevel:
        """The highest level of any model: what a change of the rules themselves is held to."""
        return max((terms.level for terms in self.models), key=lambda level: level.rank, default=SecurityLevel.SL1)
