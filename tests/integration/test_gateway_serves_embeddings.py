"""Embeddings leave where the policy says so, number by number as the unsealed model makes them, and are charged."""

from __future__ import annotations

import base64
import json
import math
import shutil
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from operator import mul
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from strongroom.cli.main import main
from strongroom.core.errors import UsageError
from strongroom.egress.bits import Output, end_bits
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.engine.adapters.channel import serve as serve_engine
from strongroom.enclave.engine.adapters.transformers_encoder import TransformersEncoder
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.engine.canaries import CANARY_FILE
from strongroom.enclave.engine.schedule import Vector
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.errors import ChannelBreachError
from strongroom.enclave.metered import OPENING, Code, Frame, Order, Orders, halves_of
from support.confined import confined
from support.enclave_lab import require_sandbox
from support.gateways import ATLAS, Engine, gateway, roomy, serving
from support.pretrained import genuine_model

pytestmark = pytest.mark.integration
VALUES: Final = 4
COST: Final = 32 * VALUES + end_bits(VALUES)
TEXTS: Final = ("a locked vault", "Ünïcode, and more: 東京", "banana bread recipe")


def vectors(**changes: Any) -> EgressPolicy:
    """Return a policy with room, that lets vectors leave and nothing else."""
    return roomy(outputs=(Output.VALUES,), **changes)


class Fixed:
    """An encoder whose vectors are made of the text's tokens."""

    def __init__(self, make: Callable[[tuple[int, ...]], tuple[float, ...]]) -> None:
        self._make = make

    def begin(self, order: Order) -> Vector | None:
        return Vector(self._make(order.prompt))


def encoder(make: Callable[[tuple[int, ...]], tuple[float, ...]] = lambda p: (p[-1] / 3, -0.0, 1e-40, -1e38)) -> Engine:
    def run(channel: socket.socket) -> None:
        serve_engine(channel, Fixed(make))

    return run


def float32(values: tuple[float, ...]) -> list[float]:
    return list(struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *values)))


def test_every_bit_of_float32_crosses_in_both_formats(tmp_path: Path) -> None:
    with gateway(tmp_path, encoder(), vectors(), values=VALUES) as live:
        client = live.client()
        expected = float32((7 / 3, -0.0, 1e-40, -1e38))
        # Unasked, the official client asks for base64 and unpacks it.
        for options in ({}, {"encoding_format": "float"}):
            said = client.embeddings.create(model=ATLAS, input="w7", **options)
            assert [struct.pack("<f", one) for one in said.data[0].embedding] == [
                struct.pack("<f", one) for one in expected
            ]
            assert (said.usage.prompt_tokens, said.usage.total_tokens) == (1, 1)
        raw = live.post("/v1/embeddings", {"model": ATLAS, "input": "w7", "encoding_format": "base64"}).json()
        assert base64.b64decode(raw["data"][0]["embedding"]) == struct.pack(f"<{VALUES}f", *expected)
        many = client.embeddings.create(model=ATLAS, input=[f"w{n}" for n in range(64)])
        assert [one.index for one in many.data] == list(range(64))
        assert [one.embedding[0] for one in many.data] == [float32((n / 3,))[0] for n in range(64)]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"dimensions": 2}, "dimensions"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["w1", ""]}, "input"),
        ({"input": ["w1"] * 65}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": "w1 " * 5000}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"stream": True}, "stream"),
    ],
)
def test_what_is_not_on_the_list_is_refused(tmp_path: Path, members: dict[str, Any], field: str) -> None:
    with gateway(tmp_path, encoder(), vectors(), values=VALUES) as live:
        answer = live.post("/v1/embeddings", {"model": ATLAS, "input": "w1"} | members)
        assert answer.status_code == 400
        told = answer.json()["error"]
        assert told["code"] == "field-refused"
        assert told["param"].split(".")[0] == field


def test_without_the_policy_s_leave_none_leaves_and_with_it_no_tokens_do(tmp_path: Path) -> None:
    for name in ("tokens", "values"):
        (tmp_path / name).mkdir()
    with gateway(tmp_path / "tokens", encoder()) as live:
        answer = live.post("/v1/embeddings", {"model": ATLAS, "input": "w1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "egress-output")
    with gateway(tmp_path / "values", encoder(), vectors(), values=VALUES) as live:
        answer = live.complete("w1")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "egress-output")
    for policy, values in ((roomy(), VALUES), (vectors(), 0)):
        with pytest.raises(UsageError, match="vectors are served"):
            serving(tmp_path, policy, values=values).check()


def test_each_is_charged_32_bits_a_number_and_one_too_many_is_refused(tmp_path: Path) -> None:
    day = 3 * COST
    policy = vectors(model_day_bits=day, fleet_day_bits=day, principal_day_bits=day)
    with gateway(tmp_path, encoder(), policy, values=VALUES) as live:
        body = {"model": ATLAS, "input": ["w1", "w2"]}
        assert live.post("/v1/embeddings", body).status_code == 200
        # Two more don't fit. The first of them was begun, and is charged.
        refused = live.post("/v1/embeddings", body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "egress-limit.principal-day")
        assert refused.json()["error"]["message"].startswith("the limit `principal-day` has 0 bits left")


def said(turn: Callable[[int], bytes]) -> Engine:
    """Return an engine that was taken over."""

    def run(channel: socket.socket) -> None:
        channel.sendall(Frame(OPENING, Code.READY).to_bytes())
        orders = Orders()
        while data := channel.recv(65536):
            for order in orders.feed(data):
                channel.sendall(turn(order.answer))

    return run


def half(answer: int, bits: int = 7) -> bytes:
    return Frame(answer, Code.VALUE, bits).to_bytes()


@pytest.mark.parametrize(
    ("found", "turn"),
    [
        ("other-output", lambda n: Frame(n, Code.TOKEN, 7).to_bytes()),
        ("egress-overspent", lambda n: half(n) * (2 * VALUES + 1)),
        ("false-end", lambda n: half(n) * (2 * VALUES - 1) + Frame(n, Code.LENGTH).to_bytes()),
        ("false-end", lambda n: half(n) * 2 + Frame(n, Code.STOPPED).to_bytes()),
        ("false-end", lambda n: Frame(n, Code.STOPPED).to_bytes()),
        ("false-end", lambda n: half(n) + Frame(n, Code.FAILED).to_bytes()),
        ("false-end", lambda n: half(n) + Frame(n, Code.CANCELLED).to_bytes()),
        ("malformed", lambda n: (n << 28 | Code.VALUE << 24 | 1 << 16).to_bytes(5, "big")),
    ],
)
def test_a_taken_over_encoder_says_no_more_than_its_numbers(
    found: str, turn: Callable[[int], bytes], tmp_path: Path
) -> None:
    with gateway(tmp_path, said(turn), vectors(), values=VALUES) as live:
        assert live.post("/v1/embeddings", {"model": ATLAS, "input": "w1"}).status_code == 503
        assert live.stopped.wait(60)
    assert isinstance(live.error, ChannelBreachError)
    assert live.error.found == found


def test_halves_of_numbers_do_not_come_in_an_answer_of_tokens(tmp_path: Path) -> None:
    with gateway(tmp_path, said(half)) as live:
        assert live.complete("w1").status_code == 503
        assert live.stopped.wait(60)
    assert isinstance(live.error, ChannelBreachError)
    assert live.error.found == "other-output"


def test_numbers_that_are_none_are_not_handed_on(tmp_path: Path) -> None:
    with gateway(tmp_path, encoder(lambda _p: (math.nan, 1.0, 1.0, math.inf)), vectors(), values=VALUES) as live:
        answer = live.post("/v1/embeddings", {"model": ATLAS, "input": "w1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine-values")
        assert live.error is None


def test_a_text_that_the_model_cannot_take_is_refused(tmp_path: Path) -> None:
    with gateway(tmp_path, said(lambda n: Frame(n, Code.FAILED).to_bytes()), vectors(), values=VALUES) as live:
        answer = live.post("/v1/embeddings", {"model": ATLAS, "input": "w1"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = genuine_model()
    if found is None:
        pytest.skip("the genuine model isn't installed: make setup")
    return found


def unsealed(folder: Path, text: str) -> list[float]:
    """Return what the plain model makes of a text: transformers' own, pooled and normalised as its folder says."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        given = tokenizer(text, return_tensors="pt")
        states = model(**given).last_hidden_state
        mask = given["attention_mask"].unsqueeze(-1)
        pooled = (states * mask).sum(1) / mask.sum(1)
        return [float(one) for one in torch.nn.functional.normalize(pooled, dim=1)[0]]


def minilm_policy() -> EgressPolicy:
    made = EgressPolicy.template(ATLAS, parameters=10**12, vocabulary=30522)
    return replace(made, principal_day_bits=made.model_day_bits, outputs=(Output.VALUES,))


def test_the_official_client_gets_the_genuine_model_s_vectors(tmp_path: Path, minilm: Path) -> None:
    def run(channel: socket.socket) -> None:
        serve_engine(channel, TransformersEncoder(minilm))

    tokenizer = PublicTokenizer.folder(minilm)
    with gateway(tmp_path, run, minilm_policy(), values=384, tokenizer=tokenizer, context=256) as live:
        client = live.client()
        expected = [unsealed(minilm, text) for text in TEXTS]
        for options in ({}, {"encoding_format": "float"}):
            got = client.embeddings.create(model=ATLAS, input=list(TEXTS), **options)
            for one, wanted in zip(got.data, expected, strict=True):
                # The same kernels: the same numbers, but for the order of a sum.
                assert max(abs(a - b) for a, b in zip(one.embedding, wanted, strict=True)) < 1e-6
        vault, _other, bread = (one.embedding for one in client.embeddings.create(model=ATLAS, input=list(TEXTS)).data)
        (safe,) = (one.embedding for one in client.embeddings.create(model=ATLAS, input="a strong safe").data)
        assert sum(map(mul, vault, safe)) > sum(map(mul, vault, bread)) + 0.2


@pytest.mark.heavy
def test_confined_it_makes_the_same_vectors_and_compares_them_first(tmp_path: Path, minilm: Path) -> None:
    require_sandbox()
    shutil.copytree(minilm, tmp_path / "sealed")
    questions, out = tmp_path / "questions.txt", tmp_path / "sealed" / CANARY_FILE
    questions.write_text("\n".join(TEXTS))
    recording = ["enclave", "serve", "canaries", str(minilm), "--questions", str(questions), "--out", str(out)]
    done = CliRunner().invoke(main, recording)
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "sealed", *(tmp_path / "sealed").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    engine = confined(tmp_path, [*BuiltIn.TRANSFORMERS.command], [], room=256 << 20)
    tokenizer = PublicTokenizer.folder(minilm)
    with gateway(tmp_path, engine, minilm_policy(), values=384, tokenizer=tokenizer, context=256) as live:
        assert live.error is None
        got = live.client().embeddings.create(model=ATLAS, input=list(TEXTS))
        for one, text in zip(got.data, TEXTS, strict=True):
            wanted = unsealed(minilm, text)
            assert max(abs(a - b) for a, b in zip(one.embedding, wanted, strict=True)) < 1e-5
    # The canaries were compared: with one that is otherwise, nothing would have been served.
    assert len(json.loads(out.read_bytes())["canaries"]) == len(TEXTS)


def test_halves_carry_every_bit() -> None:
    assert halves_of((1.0, -2.5)) == (0x3F80, 0, 0xC020, 0)
