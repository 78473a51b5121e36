"""Policies with models, random facts under them, and a keeper in memory behind the paths that policy tools call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from hypothesis import assume
from hypothesis import strategies as st

from strongroom.access.brakes import BRAKES
from strongroom.access.engine import DEFAULT_CEDAR, CedarEngine
from strongroom.access.facts import Facts
from strongroom.access.legitimate import AT, cleared, legitimate
from strongroom.access.policy import ModelTerms, Policy
from strongroom.access.request import Purpose
from strongroom.audit.entries import read_entry
from strongroom.audit.merkle import leaf_hash, make_consistency, make_inclusion, node_hash
from strongroom.client.default_policy import default_policy
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel
from strongroom.ipc.frames import Call
from strongroom.keeper.collateral import CollateralRegistry
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.leases import Leases
from strongroom.keeper.registry import PlatformRegistry
from strongroom.keeper.routes import KeeperRoutes
from strongroom.keeper.shards import SHARD_LIMITS, Shards
from strongroom.release.decided import Decided
from strongroom.release.dossier import Dossier
from support.collateral import MemoryCollateral
from support.room import Room

GENESIS = Digest.of(b"genesis")
SECRET = ModelId("atlas")
OPEN = ModelId("minilm")


def policy(cedar: str = DEFAULT_CEDAR, *, levels: tuple[SecurityLevel, ...] = (SecurityLevel.SL4,)) -> Policy:
    """Return the default policy with a model at each level, which may be exported where that is possible at all."""
    terms = tuple(
        ModelTerms(
            model=ModelId(f"model-{level.value.lower()}"),
            level=level,
            least_isolation="vm-simulated",
            owner="research",
            export=level is not SecurityLevel.SL5,
        )
        for level in levels
    )
    return replace(default_policy(GENESIS), cedar=cedar, models=terms)


EVERY_LEVEL = policy(levels=tuple(SecurityLevel))
ENGINE = CedarEngine(EVERY_LEVEL)


@st.composite
def facts_under(draw: st.DrawFn, rules: Policy = EVERY_LEVEL) -> Facts:
    """Draw facts under one of a policy's rules: everything in order, but for up to two things."""
    rule = draw(st.sampled_from(rules.rules))
    terms = draw(st.sampled_from([one for one in rules.models if one.level is rule.level]))
    facts = legitimate(rule, terms, rules.caps, draw(st.sampled_from(Purpose)))
    for brake in draw(st.lists(st.sampled_from(BRAKES), max_size=2)):
        if brake.holds(facts):
            facts = replace(brake.broken(facts), rule=rule, terms=terms)
    # Two brakes together may make a request that ends before it begins, which nobody can hand in.
    assume(facts.request.expires > facts.request.not_before)
    roles = sorted({factor.role for one in rules.rules for factor in one.factors})
    more = tuple(
        cleared(
            f"more-{number}",
            org=draw(st.sampled_from(["research", "asking-unit", "another-unit"])),
            roles=frozenset(draw(st.lists(st.sampled_from(roles), max_size=2))),
            courses=rule.courses,
        )
        for number in range(draw(st.integers(0, 2)))
    )
    return replace(
        facts,
        approvers=(*facts.approvers, *more),
        recorded_at=draw(st.sampled_from([facts.recorded_at, AT - 3600, AT])),
        review_overdue=draw(st.sampled_from([False, False, True])),
        holders=draw(st.sampled_from([facts.holders, 1, 20, 50, 100])),
    )


@dataclass
class Stored:
    """What the broker would hold of one request."""

    request: Envelope
    approvals: tuple[Envelope, ...] = ()


class PolicyDeployment:
    """A room with a keeper, and a transport to it: the paths that policy tools and `explain` call. It may lie."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.room = Room()
        self.documents: dict[str, Envelope] = {}
        self.requests: dict[str, Stored] = {}
        self.auditor = True
        """Whether the caller may see decisions."""
        self.withheld = 0
        self.forged: tuple[bytes, ...] = ()
        self.lies: dict[str, Any] = {}
        """Path -> what is answered instead."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something of the keeper's."""
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        """End the loop."""
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Keep the loop: another command may call."""

    def call(  # noqa: C901, PLR0911, PLR0912 - one case and return for each route
        self, method: str, path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None
    ) -> Json:
        """Answer as the broker would."""
        if path in self.lies:
            answer: Json = self.lies[path]
            return answer
        asked = dict(query or {})
        match [method, *path.removeprefix("/v1/").split("/")]:
            case ["GET", "state"]:
                status = self.ask("status")
                in_force = status["documents"]
                assert isinstance(in_force, dict)
                shown: Json = {kind: self._in_force(kind, one).to_json() for kind, one in in_force.items()}
                return {**status, "documents": shown, "checkpoint": self.room.log.sign().decode()}
            case ["GET", "documents", kind, digest]:
                kept = self.room.documents.load(kind, Digest.parse(digest))
                if kept is None:
                    raise NotFoundError("no such document is stored")
                return {"envelope": Envelope.parse(kept).to_json()}
            case ["POST", "documents", kind]:
                assert isinstance(body, dict)
                return self.ask("adopt", kind=kind, envelope=body["envelope"])
            case ["GET", "decisions"]:
                return self._decisions(int(asked["count"]), asked.get("before"))
            case ["GET", "releases", index, "explanation"]:
                return self._release(int(index))
            case ["GET", "requests"]:
                return {"requests": [], "next": None}
            case ["GET", "requests", digest, "explanation"]:
                stored = self.requests[digest]
                dossier = Dossier(request=stored.request, approvals=stored.approvals, wrapped=self.room.wrapped)
                return self.ask("explain", dossier=dossier.to_json())
            case ["GET", "log", "entries"]:
                start, count = int(asked["start"]), int(asked["count"])
                entries: list[Json] = [to_base64(one) for one in self.room.log.entries[start : start + min(count, 7)]]
                return {"start": start, "entries": entries}
            case ["GET", "log", "proof", "inclusion"]:
                place = int(asked["index"])
                proof: list[Json] = [to_base64(one) for one in make_inclusion(place, int(asked["size"]), self._node)]
                return {"leaf": to_base64(self._node(0, place)), "proof": proof}
            case ["GET", "log", "proof", "consistency"]:
                steps = make_consistency(int(asked["old"]), int(asked["new"]), self._node)
                return {"proof": [to_base64(one) for one in steps]}
            case _:
                raise NotFoundError("there is nothing at this address")

    def ask(self, operation: str, **members: Json) -> dict[str, Json]:
        """Ask the keeper."""
        room = self.room
        platforms = PlatformRegistry(room.keeper, room.clock, os.urandom)
        leases = Leases(room.keeper, room.clock)
        collateral = CollateralRegistry(room.keeper, MemoryCollateral(), room.clock)
        shards = Shards(room.keeper, room.clock, SHARD_LIMITS)
        keys = KeyRoutes(room.keeper, room.rotation(), room.clock)
        routes = KeeperRoutes(
            room.keeper,
            platforms,
            room.people,
            leases,
            room.decisions,
            room.clock,
            collateral,
            shards=shards,
            keys=keys,
        )
        answer: dict[str, Json] = self.run(
            routes.serve(Call(1, operation, Fields(dict(members), operation)), os.geteuid())
        )
        return answer

    def _in_force(self, kind: str, told: Json) -> Envelope:
        assert isinstance(told, dict)
        kept = self.room.documents.load(kind, Digest.parse(str(told["digest"])))
        assert kept is not None
        return Envelope.parse(kept)

    def _decisions(self, count: int, before: Json) -> Json:
        if not self.auditor:
            raise DeniedError("this address is for people with the role `auditor`")
        known = None if before in {str(Digest.of(one)) for one in self.forged} else before
        answer = self.ask("decisions", count=count, before=known)["decisions"]
        assert isinstance(answer, list)
        kept = answer[: max(0, len(answer) - self.withheld)]
        forged: list[Json] = [] if before else [to_base64(one) for one in self.forged]
        return {"decisions": [*kept, *forged][-count:]}

    def _release(self, index: int) -> Json:
        if not self.auditor:
            raise DeniedError("this address is for people with the role `auditor`")
        named = read_entry(self.room.log.entries[index]).facts["decision"]
        record = str(self.ask("decision", digest=str(named))["decision"])
        decided = Decided.parse(from_base64(record))
        return {
            "allowed": decided.allowed,
            "checks": [check.to_json() for check in decided.checks],
            "others": [{"reason": reason, "remedy": remedy} for reason, remedy in decided.others],
            "record": record,
        }

    def _node(self, level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(self.room.log.entries[index])
        return node_hash(self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1))
