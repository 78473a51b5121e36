"""The release policy: Cedar text, a rule for each action and security level, and what each model demands.

One document, signed by the root quorum, with a rising epoch. Whoever could change a rule alone could release alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.access.request import Action
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.framework.levels import SecurityLevel

POLICY_TYPE: Final = payload_type("policy.v1")
MAX_RULES: Final = 64
MAX_MODELS: Final = 4096
MAX_FACTORS: Final = 8
MAX_CEDAR: Final = 65536


class NoRuleError(NotFoundError):
    """The policy has no rule for this action at this level, or doesn't know the model. Nothing is allowed."""

    code = "no-rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """``count`` approvals by people who hold ``role``. Factors are ANDed over distinct people."""

    role: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who must agree to an action at a security level, and within which limits."""

    action: Action
    level: SecurityLevel
    requester_role: str
    factors: tuple[Factor, ...]
    requester_tier: int
    approver_tier: int
    max_window: int
    """Longest allowed time between ``not_before`` and ``expires``, in seconds."""
    max_uses: int

    @classmethod
    def read(cls, fields: Fields) -> Rule:
        """Read one rule."""
        return cls(
            action=fields.parsed("action", Action),
            level=fields.parsed("level", SecurityLevel),
            requester_role=fields.text("requester_role", max_length=48),
            factors=fields.objects(
                "factors",
                lambda f: Factor(role=f.text("role", max_length=48), count=f.integer("count", least=1, most=16)),
                most=MAX_FACTORS,
            ),
            requester_tier=fields.integer("requester_tier", most=5),
            approver_tier=fields.integer("approver_tier", most=5),
            max_window=fields.integer("max_window", least=1, most=366 * 86400),
            max_uses=fields.integer("max_uses", least=1, most=1_000_000),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "action": self.action.value,
            "level": self.level.value,
            "requester_role": self.requester_role,
            "factors": [{"role": f.role, "count": f.count} for f in self.factors],
            "requester_tier": self.requester_tier,
            "approver_tier": self.approver_tier,
            "max_window": self.max_window,
            "max_uses": self.max_uses,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTerms:
    """What one model demands: its security level, and the least isolation that may hold it."""

    model: ModelId
    level: SecurityLevel
    least_isolation: str

    @classmethod
    def read(cls, fields: Fields) -> ModelTerms:
        """Read one model's terms."""
        return cls(
            model=fields.parsed("model", model_id),
            level=fields.parsed("level", SecurityLevel),
            least_isolation=fields.text("least_isolation", max_length=32),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"model": self.model, "level": self.level.value, "least_isolation": self.least_isolation}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The release policy of one epoch."""

    genesis: Digest
    epoch: int
    predecessor: Digest | None
    cedar: str
    rules: tuple[Rule, ...]
    models: tuple[ModelTerms, ...]

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

    def rule(self, action: Action, level: SecurityLevel) -> Rule:
        """Return the rule for an action at a level.

        :raises NoRuleError: there is none.
        """
        for rule in self.rules:
            if rule.action is action and rule.level is level:
                return rule
        raise NoRuleError(f"the policy has no rule for `{action.value}` at {level.value}")
