"""Targets around a served model: what comes out of its enclave, what clients and screens say, the gateway's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from fuzz.targets.target import Target
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.ids import ImageId, ModelId
from strongroom.egress.policy import VerifiedBy
from strongroom.enclave.engine.pooling import read_form
from strongroom.enclave.gateway.adapters.http_screen import read_verdict
from strongroom.enclave.gateway.bodies import ChatBody, CompletionBody, EmbeddingBody, read
from strongroom.enclave.gateway.replay import Replays
from strongroom.enclave.gateway.screen_settings import ScreenSettings
from strongroom.enclave.gateway.screens import Category
from strongroom.enclave.gateway.suspension import BlockLimit, Standing
from strongroom.enclave.metered import OPENING, Code, Frame, Frames, Kind, Order, Orders
from strongroom.sealing.canary import Canary, canaries_to_bytes, read_canaries

_SETTINGS: Final = {
    "v": 1,
    "suspend": {"blocks": 5, "seconds": 3600},
    "output": {"window": 400, "overlap": 200},
    "screens": [
        {
            "kind": "http",
            "name": "guard",
            "directions": ["input", "output"],
            "url": "https://guard.example/judge",
            "milliseconds": 2000,
        },
        {
            "kind": "classifier",
            "name": "local",
            "directions": ["input"],
            "folder": "/srv/guard",
            "labels": {"BAD": {"category": "harm", "flag": 500, "block": 900}},
        },
    ],
}
_BODIES: Final[dict[str, tuple[Any, object]]] = {
    "completion": (CompletionBody, {"model": "atlas", "prompt": "hello", "max_tokens": 4, "stop": ["a", "b"]}),
    "chat": (ChatBody, {"model": "atlas", "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}]}]}),
    "embedding": (EmbeddingBody, {"model": "atlas", "input": ["a", "b"], "encoding_format": "base64"}),
}


def _frames() -> Iterable[bytes]:
    codes = (
        (0, Code.TOKEN, 42),
        (0, Code.VALUE, 0x3F80),
        (1, Code.AGREED, 2),
        (0, Code.LENGTH, 0),
        (OPENING, Code.READY, 0),
    )
    return [b"".join(Frame(answer, code, token).to_bytes() for answer, code, token in codes)]


def _orders() -> Iterable[bytes]:
    asks = (
        Order(kind=Kind.GENERATE, answer=0, most=4, temperature=700, seed=7, prompt=(1, 2)),
        Order(kind=Kind.EMBED, answer=1, most=384, prompt=(101, 102)),
        Order(kind=Kind.CANCEL, answer=0),
        Order(kind=Kind.REPLAY, answer=2, most=2, temperature=700, seed=7, prompt=(1, 42, 43)),
    )
    return [b"".join(order.to_bytes() for order in asks)]


def _verdict(data: bytes) -> object:
    """Read bytes as what a second engine says of one answer of two tokens."""
    replays = Replays(
        ModelId("atlas"),
        VerifiedBy(image=ImageId("second"), replay_permille=1000, differences_per_million=1),
        lambda: 0,
    )
    replays.received(Frame(OPENING, Code.READY).to_bytes())
    kept = replays.keep(1, Order(kind=Kind.GENERATE, answer=0, most=2, prompt=(1,)))
    assert kept is not None
    kept.said.extend((42, 43))
    replays.ended(kept, 0)
    replays.next()
    return replays.received(data)


def _standings() -> Iterable[bytes]:
    limit = BlockLimit(blocks=1, seconds=60)
    suspended = Standing("dana").blocked(Category.HARM, limit, 1_700_000_000)
    return [suspended.to_bytes(), suspended.lift("looked at it", 1_700_000_001).to_bytes()]


def _canaries() -> Iterable[bytes]:
    return [
        canaries_to_bytes([Canary.of_tokens("a", [1], [2, 3]), Canary.of_vector("b", [1], [0.6, 0.8], tolerance=100)])
    ]


_MODULES: Final = json.dumps(
    [
        {"path": f"{n}_{kind}" if n else "", "type": f"a.{kind}"}
        for n, kind in enumerate(("Transformer", "Pooling", "Normalize"))
    ]
).encode()
_FORM: Final = {
    "modules.json": _MODULES,
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "sentence_bert_config.json": b'{"max_seq_length": 256}',
}


def _encoder_form(data: bytes) -> object:
    """Read bytes as the first of the folder's files that they can be, the others being good ones."""
    for name in _FORM:
        with suppress(StrongroomError):
            return read_form({**_FORM, name: data}.get)
    raise MalformedError("none of the files")


def _body(name: str) -> Target:
    kind, good = _BODIES[name]
    return Target(read=partial(read, kind), seeds=lambda: [json.dumps(good).encode()])


GATEWAY: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "metered-frames": Target(read=lambda data: Frames().feed(data), seeds=_frames),
        "metered-orders": Target(read=lambda data: Orders().feed(data), seeds=_orders),
        "replay-verdict": Target(
            read=_verdict, seeds=lambda: [Frame(0, Code.AGREED, 1).to_bytes() + Frame(0, Code.LENGTH).to_bytes()]
        ),
        "screen-settings": Target(read=ScreenSettings.parse, seeds=lambda: [json.dumps(_SETTINGS).encode()]),
        "screen-verdict": Target(read=read_verdict, seeds=lambda: [b'{"v": 1, "ruling": "block", "category": "harm"}']),
        "suspensions": Target(read=Standing.parse, seeds=_standings),
        "canaries": Target(read=read_canaries, seeds=_canaries),
        "encoder-form": Target(read=_encoder_form, seeds=_FORM.values),
        **{f"{name}-body": _body(name) for name in _BODIES},
    }
)
