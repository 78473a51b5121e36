"""A gate's rules as nftables' own JSON (libnftables-json(5)), compared with what the kernel lists afterwards. Pure.

Both come from one description: a rule that is loaded and not checked, or checked and not loaded, can't be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import MAX_INTEGER, Json
from strongroom.enclave.gate.errors import GateTamperedError
from strongroom.enclave.gate.settings import GateSettings

TABLE: Final = "strongroom"
ENCLAVE_LINK: Final = "enclave"
"""The gate's interface towards the enclave."""
WORLD_LINK: Final = "world"
_HOME: Final[dict[str, Json]] = {"family": "inet", "table": TABLE}
_BEFORE_DEFRAGMENTATION: Final = -450
_MORE_FRAGMENTS: Final = 0x3FFF
_OUT, _IN, _PASSED, _REFUSED = "out", "in", "passed", "refused"
_KERNELS_OWN: Final = frozenset({"handle", "used", "packets"})
Command = dict[str, Json]
_TABLE: Final[Command] = {"table": {"family": "inet", "name": TABLE}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """How many bytes the kernel may let through, and how many it has. Totals over the gate's life."""

    through_out: int
    through_in: int
    used_out: int
    used_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the kernel counts: bytes of whole packets, and packets."""

    out: int
    back: int
    """Bytes that came in."""
    limit_out: int
    limit_in: int
    passed: int
    """Packets that went out."""
    refused: int
    """Packets that were dropped by a rule of the gate."""


def open_rules(settings: GateSettings, quotas: Quotas) -> Json:
    """Return the transaction that replaces everything loaded by the rules of an open gate."""
    limits = {_OUT: (quotas.through_out, quotas.used_out), _IN: (quotas.through_in, quotas.used_in)}
    named: list[Command] = [
        {"quota": {**_HOME, "name": name, "bytes": most, "used": used, "inv": True}}
        for name, (most, used) in limits.items()
    ]
    return _replace([*named, *_objects(settings)])


def shut_rules() -> Json:
    """Return the transaction that replaces everything loaded by rules that drop everything, in one step."""
    return _replace([*_chains()])


def raise_limits(quotas: Quotas) -> Json:
    """Return the transaction that moves both limits. The kernel keeps what it counted."""
    return _transaction(
        {"quota": {**_HOME, "name": name, "bytes": most, "used": 0, "inv": True}}
        for name, most in ((_OUT, quotas.through_out), (_IN, quotas.through_in))
    )


def read_back(listing: Json, settings: GateSettings) -> Reading:
    """Compare what the kernel lists with the rules of an open gate, and return its counters.

    :raises GateTamperedError: a table, chain, rule, set or object more, less or otherwise than it was loaded.
    """
    found = _listed(listing)
    quota_names: list[Command] = [{"quota": {**_HOME, "name": name, "inv": True}} for name in (_OUT, _IN)]
    _compare(found, [_TABLE, *quota_names, *_objects(settings)])
    quotas, counters = _by_name(found, "quota"), _by_name(found, "counter")
    return Reading(
        out=_count(quotas[_OUT], "used"),
        back=_count(quotas[_IN], "used"),
        limit_out=_count(quotas[_OUT], "bytes"),
        limit_in=_count(quotas[_IN], "bytes"),
        passed=_count(counters[_PASSED], "packets"),
        refused=_count(counters[_REFUSED], "packets"),
    )


def read_shut(listing: Json) -> None:
    """Check that the kernel drops everything.

    :raises GateTamperedError: it lists anything else.
    """
    _compare(_listed(listing), [_TABLE, *_chains()])


def _objects(settings: GateSettings) -> list[Command]:
    peers: list[Json] = [{"concat": [peer.address, peer.transport.value, peer.port]} for peer in sorted(settings.peers)]
    kinds: list[Json] = ["ipv4_addr", "inet_proto", "inet_service"]
    return [
        {"counter": {**_HOME, "name": _PASSED}},
        {"counter": {**_HOME, "name": _REFUSED}},
        {"set": {**_HOME, "name": "peers", "type": kinds, "elem": peers}},
        *_chains(),
        _chain("fragments", kind="filter", hook="prerouting", priority=_BEFORE_DEFRAGMENTATION, policy="accept"),
        _chain("source", kind="nat", hook="postrouting", priority=100, policy="accept"),
        {"chain": {**_HOME, "name": "outwards"}},
        # Reassembled packets would be counted without the headers of their fragments, and those can say something.
        _rule("fragments", _is({"&": [_payload("ip", "frag-off"), _MORE_FRAGMENTS]}, 0, "!="), _refuse()),
        _rule(
            "through",
            [_is(_meta("iifname"), ENCLAVE_LINK), _is(_meta("oifname"), WORLD_LINK)],
            _is(_payload("ip", "saddr"), settings.enclave_address),
            _is(
                {"concat": [_payload("ip", "daddr"), _meta("l4proto"), _payload("th", "dport")]},
                "@peers",
            ),
            _state(["established", "new"]),
            {"goto": {"target": "outwards"}},
        ),
        # What comes in answers what went out: nobody outside begins anything.
        _rule("through", [_is(_meta("iifname"), WORLD_LINK), _state("established")], {"quota": _IN}, _refuse()),
        _rule("through", [_is(_meta("iifname"), WORLD_LINK), _state("established")], {"accept": None}),
        _rule("through", {"counter": _REFUSED}),
        _rule("outwards", _state("new"), {"ct count": {"val": settings.connections, "inv": True}}, _refuse()),
        _rule("outwards", {"quota": _OUT}, _refuse()),
        _rule("outwards", {"counter": _PASSED}, {"accept": None}),
        _rule(
            "source",
            _is(_meta("oifname"), WORLD_LINK),
            {"snat": {"family": "ip", "addr": settings.gate_outside}},
        ),
    ]


def _chains() -> list[Command]:
    return [
        _chain(name, kind="filter", hook=hook, priority=0, policy="drop")
        for name, hook in (("own-in", "input"), ("own-out", "output"), ("through", "forward"))
    ]


def _chain(name: str, *, kind: str, hook: str, priority: int, policy: str) -> Command:
    return {"chain": {**_HOME, "name": name, "type": kind, "hook": hook, "prio": priority, "policy": policy}}


def _rule(chain: str, *expressions: Json) -> Command:
    flat: list[Json] = []
    for one in expressions:
        flat.extend(one if isinstance(one, list) else [one])
    return {"rule": {**_HOME, "chain": chain, "expr": flat}}


def _is(left: Json, right: Json, operator: str = "==") -> Json:
    return {"match": {"op": operator, "left": left, "right": right}}


def _state(states: Json) -> Json:
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}}


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _payload(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _refuse() -> list[Json]:
    return [{"counter": _REFUSED}, {"drop": None}]


def _replace(objects: Iterable[Command]) -> Json:
    # One transaction: no moment is without rules. Other tables go too, since each could take packets elsewhere.
    added: list[Json] = [{"add": one} for one in objects]
    return {"nftables": [{"flush": {"ruleset": None}}, {"add": _TABLE}, *added]}


def _transaction(objects: Iterable[Command]) -> Json:
    return {"nftables": [{"add": one} for one in objects]}


def _listed(listing: Json) -> list[Mapping[str, Json]]:
    items = listing.get("nftables") if isinstance(listing, dict) else None
    if not isinstance(items, list) or not all(isinstance(one, dict) and len(one) == 1 for one in items):
        raise GateTamperedError("the kernel's rules can't be read")
    return [one for one in items if isinstance(one, dict) and "metainfo" not in one]


def _compare(found: list[Mapping[str, Json]], wanted: list[Command]) -> None:
    # Rules of a chain stand in their order; everything else in whichever order the kernel lists it.
    if sorted(map(_key, map(_static, found))) != sorted(map(_key, map(_static, wanted))) or _order(found) != _order(
        wanted
    ):
        raise GateTamperedError(
            "the kernel's rules aren't the ones that this gate loaded",
            remedy="find out who changed them; the gate stays shut",
        )


def _static(item: Mapping[str, Json]) -> Json:
    ((kind, body),) = item.items()
    if not isinstance(body, dict):
        raise GateTamperedError("the kernel's rules can't be read")
    kept = {key: value for key, value in body.items() if key not in _KERNELS_OWN}
    if kind in {"quota", "counter"}:
        kept.pop("bytes", None)
    elements = kept.get("elem")
    if kind == "set" and isinstance(elements, list):
        kept["elem"] = sorted(elements, key=_key)
    return {kind: kept}


def _order(items: Iterable[Mapping[str, Json]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items:
        body = item.get("rule")
        if isinstance(body, dict):
            found.setdefault(str(body.get("chain")), []).append(_key(body.get("expr")))
    return found


def _key(value: Json) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_key(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_key, value)) + "]"
    return repr(value)


def _by_name(items: Iterable[Mapping[str, Json]], kind: str) -> dict[str, Mapping[str, Json]]:
    bodies = (item.get(kind) for item in items)
    return {str(body["name"]): body for body in bodies if isinstance(body, dict)}


def _count(body: Mapping[str, Json], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise GateTamperedError("a counter of the gate can't be read")
    return value
