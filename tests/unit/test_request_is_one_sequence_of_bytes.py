"""A request is one sequence of bytes; each member is in it, and members that don't fit the action are refused."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from strongroom.access.request import OPENS, Action, LogHead, Purpose, Request
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId

NOW = 1_795_000_000
ONE, TWO = PlatformId("tpm-" + "1" * 64), PlatformId("tpm-" + "2" * 64)


def request_to(action: Action) -> Request:
    """Return a good request for an action."""
    opens, exports = action in OPENS, action is Action.EXPORT_PLAINTEXT
    return Request(
        genesis=Digest.of(b"genesis"),
        action=action,
        requester=PersonId("dana"),
        model=ModelId("atlas"),
        version=2 if opens or exports or action is Action.SEAL else 0,
        manifest=Digest.of(b"manifest") if opens or exports else None,
        purpose=Purpose.EVALUATE,
        ticket="T-1",
        justification=None,
        image=ImageId("embedder") if opens else None,
        measurement=Digest.of(b"measured") if opens else None,
        platforms=(ONE,) if opens or action is Action.REVOKE_PLATFORM else (),
        recipient=Digest.of(b"recipient") if exports or action is Action.SEAL else None,
        target=Digest.of(b"target") if action in {Action.REVOKE_GRANT, Action.LIFT} else None,
        not_before=NOW,
        expires=NOW + 60,
        max_uses=3 if opens else 1,
        nonce=bytes(16),
        roster=Digest.of(b"roster"),
        policy=Digest.of(b"policy"),
        log=LogHead(size=7, root=Digest.of(b"root")),
    )


OPEN = request_to(Action.OPEN_IN_ENCLAVE)
CHANGES: dict[str, object] = {
    "genesis": Digest.of(b"x"),
    "action": Action.SEAL,
    "requester": PersonId("sam"),
    "model": ModelId("borea"),
    "version": 3,
    "manifest": Digest.of(b"x"),
    "purpose": Purpose.SERVE,
    "ticket": "T-2",
    "justification": Digest.of(b"x"),
    "image": ImageId("other"),
    "measurement": Digest.of(b"x"),
    "platforms": (ONE, TWO),
    "recipient": Digest.of(b"x"),
    "target": Digest.of(b"x"),
    "not_before": NOW - 1,
    "expires": NOW + 61,
    "max_uses": 4,
    "nonce": bytes(15) + b"\x01",
    "roster": Digest.of(b"x"),
    "policy": Digest.of(b"x"),
    "log": LogHead(size=8, root=Digest.of(b"root")),
}


@pytest.mark.parametrize("action", Action)
def test_a_request_comes_back(action: Action) -> None:
    request = request_to(action)
    assert Request.parse(request.to_bytes()) == request
    assert Digest.of(request.to_bytes()) == request.digest


def test_every_member_is_tried_here() -> None:
    assert set(CHANGES) == {field.name for field in fields(Request)}


@pytest.mark.parametrize("name", CHANGES)
def test_any_changed_member_is_another_request_or_none(name: str) -> None:
    other = replace(OPEN, **{name: CHANGES[name]})  # type: ignore[arg-type]  # each has its field's type
    try:
        assert other.digest != OPEN.digest
    except MalformedError:
        # Members that belong to another action.
        assert name in {"action", "recipient", "target"}


MEMBERS: dict[str, tuple[object, object]] = {
    "manifest": (Digest.of(b"x"), None),
    "image": (ImageId("embedder"), None),
    "measurement": (Digest.of(b"x"), None),
    "platforms": ((ONE,), ()),
    "recipient": (Digest.of(b"x"), None),
    "target": (Digest.of(b"x"), None),
    "version": (1, 0),
}
NEEDED = {
    Action.OPEN_IN_ENCLAVE: {"manifest", "image", "measurement", "platforms", "version"},
    Action.BREAK_GLASS: {"manifest", "image", "measurement", "platforms", "version"},
    Action.EXPORT_PLAINTEXT: {"manifest", "recipient", "version"},
    Action.SEAL: {"recipient", "version"},
    Action.REVOKE_GRANT: {"target"},
    Action.LIFT: {"target"},
    Action.REVOKE_PLATFORM: {"platforms"},
    Action.FREEZE: set(),
    Action.RESUME: set(),
    Action.ROTATE: set(),
    Action.DESTROY: set(),
}


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("name", MEMBERS)
def test_each_action_has_its_members_and_no_others(action: Action, name: str) -> None:
    given, left_out = MEMBERS[name]
    wrong = left_out if name in NEEDED[action] else given
    bad = replace(request_to(action), **{name: wrong})  # type: ignore[arg-type]  # each has its field's type
    with pytest.raises(MalformedError, match=f"request.{name}"):
        bad.to_bytes()


@pytest.mark.parametrize("action", sorted(set(Action) - OPENS))
def test_only_opening_has_more_than_one_use(action: Action) -> None:
    with pytest.raises(MalformedError):
        replace(request_to(action), max_uses=2).to_bytes()


@pytest.mark.parametrize(
    "bad",
    [
        replace(OPEN, expires=NOW),
        replace(OPEN, expires=NOW - 1),
        replace(OPEN, nonce=bytes(15)),
        replace(OPEN, nonce=b""),
        replace(OPEN, platforms=(ONE, ONE)),
    ],
)
def test_members_that_contradict_each_other_are_refused(bad: Request) -> None:
    with pytest.raises(MalformedError):
        bad.to_bytes()


def edited(**members: Json) -> bytes:
    body = decode(OPEN.to_bytes())
    assert isinstance(body, dict)
    return encode({**body, **members})


@pytest.mark.parametrize(
    "payload",
    [
        edited(v=2),
        edited(v=True),
        edited(extra=1),
        edited(action="open"),
        edited(purpose="because"),
        edited(max_uses=0),
        edited(max_uses=True),
        edited(max_uses=1_000_001),
        edited(version=-1),
        edited(ticket="x" * 65),
        edited(ticket="two\nlines"),
        edited(nonce="AAAA"),
        edited(platforms=["tpm-1"]),
        edited(platforms=None),
        edited(log=None),
        edited(log={"size": 7}),
        edited(log={"size": 7, "root": str(Digest.of(b"root")), "more": 1}),
        edited(not_before="2026-11-23"),
        edited(requester="dana@example"),
        edited(manifest=None),
        edited(expires="2026-11-23T00:00:00Z", not_before="2026-11-24T00:00:00Z"),
        OPEN.to_bytes() + b"\n",
        OPEN.to_bytes().replace(b'"v":1', b'"v": 1'),
        OPEN.to_bytes().replace(b'"v":1', b'"v":1,"v":1'),
        b"{}",
        b"[]",
        b"",
    ],
)
def test_any_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        Request.parse(payload)
