"""A process of a scratch copy, with layers turned off.

``python -m strongroom.attacks.lab.weakened LAYERS MODULE --home HOME ...``

What RAND asks of independent layers can't be seen while all of them stand: the first that refuses hides the others. So
each is turned off in turn, in deployments that were made for it and hold random bytes, and the attacks are tried again.

A layer is turned off by replacing one function in the starting process. Whoever could start this against a real
deployment could as well start any program in the keeper's place: what keeps both out is that nobody else has its
folder and passphrase. All the same it refuses whatever its own root holders didn't sign to be a scratch copy.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Final

from strongroom.attacks.lab.marker import need_scratch
from strongroom.attacks.layers import Layer
from strongroom.core.errors import UsageError


def _nothing(*_given: object, **_named: object) -> None:
    return None


def _never(*_given: object, **_named: object) -> bool:
    return False


def _none_at_all(*_given: object, **_named: object) -> Iterator[Any]:
    return iter(())


def _invariants() -> None:
    """Leave Cedar alone as a judge, and without what the other judge works out for it: whether a quorum is met."""
    _replace("strongroom.access.decision", "broken", _none_at_all)
    _replace("strongroom.access.engine", "quorum", lambda _facts: {})
    # The test of a policy before it is adopted would notice.
    _replace("strongroom.access.self_test", "failures", _none_at_all)


def _recount() -> None:
    """Count nothing again."""
    _replace("strongroom.keeper.service", "require_recounted", _nothing)


def _journal() -> None:
    """Record whatever is asked for, if the ledger can take it."""
    _replace("strongroom.release.chronicle:Chronicle", "require", _nothing)


def _door() -> None:
    """Have the broker call the keeper with whatever it is given."""

    async def everybody(*_given: object, **_named: object) -> None:
        return None

    _replace("strongroom.broker.door:Door", "require_author", everybody)


def _request_signatures() -> None:
    for module in ("strongroom.keeper.voices", "strongroom.release.judge"):
        _only_approvals(module, verify_requests=False)


def _approval_signatures() -> None:
    for module in ("strongroom.keeper.voices", "strongroom.release.judge"):
        _only_approvals(module, verify_requests=True)


def _only_approvals(module: str, *, verify_requests: bool) -> None:
    """Have a module verify the signatures of requests alone, or of everything else alone."""
    requests = importlib.import_module("strongroom.access.request").REQUEST_TYPE
    real = importlib.import_module("strongroom.core.envelope").verify

    def verify(envelope: Any, kind: str, *rest: Any, **named: Any) -> Any:
        if (kind == requests) is verify_requests:
            return real(envelope, kind, *rest, **named)
        return ()

    _replace(module, "verify", verify)


def _approvals_recorded() -> None:
    """Believe the database about when somebody approved."""
    real = importlib.import_module("dataclasses").replace

    def replaced(value: Any, **members: Any) -> Any:
        if "approved_at" in members and members["approved_at"] is None:
            members["approved_at"] = time.time_ns() // 10**9
        return real(value, **members)

    _replace("strongroom.release.judge", "replace", replaced)


def _voices() -> None:
    """Record whatever anybody says."""
    _replace("strongroom.keeper.voices", "_may", _nothing)


def _standing() -> None:
    """Forget what the log holds against a request: denials, revocations, who fell."""
    _replace("strongroom.release.judge", "_standing", _never)
    _replace("strongroom.keeper.service:Keeper", "_look_again", _nothing)


def _vetting() -> None:
    """Clear everybody: whoever isn't vetted counts as if they were."""
    people = importlib.import_module("strongroom.release.people")
    real = people.person_facts
    replaced = importlib.import_module("dataclasses").replace

    def cleared(*given: Any, **named: Any) -> Any:
        return replaced(
            real(*given, **named), vetted_until=4_000_000_000, tier=3, employment="active", conflict=False, nda=True
        )

    for module in ("strongroom.release.judge", "strongroom.keeper.voices", "strongroom.release.standing"):
        _replace(module, "person_facts", cleared)


def _versions() -> None:
    """Take the current version for whichever is asked for."""

    def version(case: Any, verdict: Any, request: Any) -> None:
        verdict.version = case.ledger.current(request.model)

    _replace("strongroom.release.judge", "_version", version)


SWITCHES: Final[Mapping[Layer, Callable[[], None]]] = MappingProxyType(
    {
        Layer.DOOR: _door,
        Layer.INVARIANTS: _invariants,
        Layer.RECOUNT: _recount,
        Layer.JOURNAL: _journal,
        Layer.REQUEST_SIGNATURES: _request_signatures,
        Layer.APPROVAL_SIGNATURES: _approval_signatures,
        Layer.APPROVALS_RECORDED: _approvals_recorded,
        Layer.VOICES: _voices,
        Layer.STANDING: _standing,
        Layer.VETTING: _vetting,
        Layer.VERSIONS: _versions,
    }
)
"""Layers that can be turned off in a scratch copy, and how."""


def _replace(place: str, name: str, by: object) -> None:
    """Replace what a module, or a class as ``module:class``, calls by a name."""
    found = resolve_name(place)
    # A switch that has gone stale must not look like a layer that wasn't needed.
    if not hasattr(found, name):
        raise UsageError(f"`{place}` has no `{name}` to turn off")
    setattr(found, name, by)


def turn_off(layers: Collection[Layer], home: Path) -> None:
    """Turn layers off in this process.

    :raises UsageError: the deployment at ``home`` isn't a scratch copy, or there is no switch for a layer.
    """
    need_scratch(home)
    for layer in layers:
        switch = SWITCHES.get(layer)
        if switch is None:
            raise UsageError(f"layer `{layer.value}` has no switch")
        switch()


def main() -> None:
    """Run another module of a deployment with layers turned off."""
    layers, module = sys.argv.pop(1), sys.argv.pop(1)
    home = Path(sys.argv[sys.argv.index("--home") + 1])
    turn_off([Layer(name) for name in layers.split(",")], home)
    importlib.import_module(module).main()


if __name__ == "__main__":
    main()
