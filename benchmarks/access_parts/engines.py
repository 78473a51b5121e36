"""The default policy's rules for opening and for export: in Cedar as shipped, in Casbin's matchers, and in Rego."""

from __future__ import annotations

import json
import logging
from typing import Any, Final, Protocol

import casbin  # type: ignore[import-untyped]
import cedarpy
import regopy  # type: ignore[import-untyped]
from benchmarks.access_parts.drawn import document

from strongroom.access.engine import DEFAULT_CEDAR, SCHEMA_TEXT, CedarEngine, _entities, _request
from strongroom.access.facts import Facts
from strongroom.core.canonical import Json
from support.facts import policy

REGO: Final = """
package access

default allow := false

allow if {
  input.action in {"open-in-enclave", "break-glass"}
  cleared
  employed
  agreed
  input.resource.frozen == false
  within_cap
  input.context.enclave.measurementCurrent
  input.context.enclave.platformNamed
  input.context.enclave.isolation >= input.resource.leastIsolation
  fit
}

fit if input.resource.testWeights
fit if input.context.enclave.levelCap >= input.resource.level

allow if {
  input.action == "export-plaintext"
  input.principal.human
  cleared
  input.principal.employment == "active"
  screened
  input.resource.exportable
  input.resource.level < 5
  input.resource.frozen == false
  agreed
}

cleared if {
  input.context.requesterRole in input.principal.roles
  input.principal.active
  not input.principal.conflict
  input.principal.vettedUntil > input.context.now
  input.principal.tier >= input.context.requesterTier
  signed
  secret
}

employed if input.principal.employment == "active"
employed if {
  input.principal.employment == "notice"
  input.context.purpose in {"serve", "evaluate"}
}

signed if input.principal.hardware
signed if input.context.hardwareRequired == false
secret if input.principal.nda
secret if input.context.ndaRequired == false

agreed if {
  input.context.notBefore <= input.context.now
  input.context.now < input.context.expires
  input.context.now - input.context.recordedAt >= input.context.delay
  input.context.usesLeft > 0
  input.context.denied == false
  input.context.quorum.satisfied
  not input.principal.name in input.context.quorum.approvers
}

within_cap if input.resource.level < 3
within_cap if input.context.holders <= input.context.cap

screened if input.resource.level < 3
screened if {
  input.principal.copyUntil > input.context.now
  input.context.holders <= input.context.cap
}
"""
_CLEARED: Final = """
 r.ctx.requesterRole in r.sub.roles && r.sub.active && !r.sub.conflict && r.sub.vettedUntil > r.ctx.now &&
 r.sub.tier >= r.ctx.requesterTier && (r.sub.hardware || !r.ctx.hardwareRequired) && (r.sub.nda || !r.ctx.ndaRequired)
"""
_AGREED: Final = """
 r.ctx.notBefore <= r.ctx.now && r.ctx.now < r.ctx.expires && r.ctx.now - r.ctx.recordedAt >= r.ctx.delay &&
 r.ctx.usesLeft > 0 && !r.ctx.denied && !r.obj.frozen && r.ctx.quorum.satisfied &&
 !(r.sub.name in r.ctx.quorum.approvers)
"""
_OPENS: Final = f"""
 {_CLEARED} && (r.sub.employment == "active" ||
 (r.sub.employment == "notice" && r.ctx.purpose in ("serve", "evaluate"))) && {_AGREED} &&
 (r.obj.level < 3 || r.ctx.holders <= r.ctx.cap) && r.ctx.enclave != None && r.ctx.enclave.measurementCurrent &&
 r.ctx.enclave.platformNamed && r.ctx.enclave.isolation >= r.obj.leastIsolation &&
 (r.obj.testWeights || r.ctx.enclave.levelCap >= r.obj.level)
"""
_EXPORTS: Final = f"""
 {_CLEARED} && r.sub.human && r.sub.employment == "active" && {_AGREED} && r.obj.exportable && r.obj.level < 5 &&
 (r.obj.level < 3 || (r.sub.copyUntil > r.ctx.now && r.ctx.holders <= r.ctx.cap))
"""
MATCHERS: Final = {"open-in-enclave": _OPENS, "export-plaintext": _EXPORTS}
_CASBIN: Final = """
[request_definition]
r = sub, act, obj, ctx
[policy_definition]
p = act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.act == p.act && {matcher}
"""


class Engine(Protocol):
    """One engine, asked with facts, or with input that is ready."""

    name: str

    def ready(self, facts: Facts) -> Any:
        """Return the engine's own form of the input, made of the facts."""
        ...

    def ask(self, given: Any) -> bool:
        """Decide on input that is ready."""
        ...


class Cedar:
    """Cedar 4 in Rust, with our schema: what :class:`CedarEngine` does, without what it does around it."""

    name = "cedar (cedarpy)"

    def __init__(self, text: str = DEFAULT_CEDAR) -> None:
        self._schema = cedarpy.Schema.from_str(SCHEMA_TEXT)
        self._policies = cedarpy.PolicySet.from_str(text)

    def ready(self, facts: Facts) -> tuple[dict[str, Json], cedarpy.Entities]:
        """Return a request, and entities that were checked against the schema."""
        return _request(facts), cedarpy.Entities.from_json_str(json.dumps(_entities(facts)), self._schema)

    def ask(self, given: tuple[dict[str, Json], cedarpy.Entities]) -> bool:
        """Decide; only an allow without errors counts."""
        result = cedarpy.is_authorized(given[0], self._policies, given[1], self._schema)
        return result.decision is cedarpy.Decision.Allow and not result.diagnostics.errors


class Casbin:
    """Casbin's matcher language, evaluated in Python; one enforcer for each action, which is its fastest way."""

    name = "casbin"

    def __init__(self, matchers: dict[str, str] = MATCHERS) -> None:
        # It logs each refusal as a warning, with everything that was asked.
        logging.getLogger("casbin.enforcer").disabled = True
        self._enforcers = {action: self._enforcer(action, matcher) for action, matcher in matchers.items()}

    @staticmethod
    def _enforcer(action: str, matcher: str) -> Any:
        model = casbin.Enforcer.new_model(text=_CASBIN.format(matcher=" ".join(matcher.split())))
        enforcer = casbin.Enforcer(model, enable_log=False)
        enforcer.add_policy(action)
        return enforcer

    def ready(self, facts: Facts) -> tuple[str, tuple[Any, ...]]:
        """Return objects with attributes."""
        return self.of(document(facts))

    @staticmethod
    def of(given: dict[str, Json]) -> tuple[str, tuple[Any, ...]]:
        """Return a document as objects with attributes."""
        action = str(given["action"])
        context = _Record(given["context"])
        if not hasattr(context, "enclave"):
            context.enclave = None
        return action, (_Record(given["principal"]), action, _Record(given["resource"]), context)

    def ask(self, given: tuple[str, tuple[Any, ...]]) -> bool:
        """Decide."""
        return bool(self._enforcers[given[0]].enforce(*given[1]))


class _Record:
    """A JSON object with attributes. Printed shortly, as Casbin makes text of it for its log at each call."""

    def __init__(self, members: Any) -> None:
        for name, value in members.items():
            setattr(self, name, _Record(value) if isinstance(value, dict) else value)

    enclave: Any

    def __repr__(self) -> str:
        return "record"


class Rego:
    """Rego in C++ (rego-cpp), compiled once to a bundle."""

    name = "rego (regopy)"

    def __init__(self, text: str = REGO) -> None:
        self._interpreter = regopy.Interpreter()
        self._interpreter.add_module("access", text)
        self._bundle = self._interpreter.build(None, ["access/allow"])

    def ready(self, facts: Facts) -> regopy.Input:
        """Return the document as an input of the interpreter."""
        return regopy.Input(document(facts))

    def ask(self, given: regopy.Input) -> bool:
        """Decide."""
        self._interpreter.set_input(given)
        results = self._interpreter.query_bundle_entrypoint(self._bundle, "access/allow").results
        return bool(results) and results[0].expressions == [True]


class Ours:
    """What the keeper runs: Cedar behind :class:`CedarEngine`, which fails closed."""

    name = "strongroom (CedarEngine.allows)"

    def __init__(self) -> None:
        self._engine = CedarEngine(policy())

    @staticmethod
    def ready(facts: Facts) -> Facts:
        """Return the facts."""
        return facts

    def ask(self, given: Facts) -> bool:
        """Decide."""
        return self._engine.allows(given) is not None
