"""The official `openai` client, as it comes: models, completions, conversations, streams, errors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.gateways import ATLAS, Counting, counted, gateway, honest, text_of

pytestmark = pytest.mark.integration
openai = pytest.importorskip("openai", reason="the official `openai` client isn't installed")
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "w5"}]
"""With the template of the tests: w1 w5 w2 w3, so that counting goes on with w4."""


def test_models_and_answers(tmp_path: Path) -> None:
    with gateway(tmp_path) as live:
        client = live.client()
        assert [model.id for model in client.models.list()] == [ATLAS]
        assert client.models.retrieve(ATLAS).id == ATLAS
        whole = client.chat.completions.create(model=ATLAS, messages=HELLO, max_completion_tokens=5, temperature=0)
        assert whole.choices[0].message.content == text_of([4, 5, 6, 7, 8])
        assert whole.choices[0].finish_reason == "length"
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (4, 5)
        assert whole.system_fingerprint == "strongroom"
        parts = [{"role": "user", "content": [{"type": "text", "text": "w5"}]}]
        assert client.chat.completions.create(model=ATLAS, messages=parts, max_tokens=1).choices[0].message.content
        old = client.completions.create(model=ATLAS, prompt="w9", max_tokens=3)
        assert old.choices[0].text == text_of([10, 11, 12])


def test_streams_are_the_same_text(tmp_path: Path) -> None:
    with gateway(tmp_path, honest(0.001), tick=0.01) as live:
        client = live.client()
        events = list(
            client.chat.completions.create(
                model=ATLAS, messages=HELLO, max_tokens=60, stream=True, stream_options={"include_usage": True}
            )
        )
        assert events[0].choices[0].delta.role == "assistant"
        said = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
        assert said == text_of([*range(4, 64)])
        assert events[-2].choices[0].finish_reason == "length"
        assert events[-1].usage.completion_tokens == 60
        assert {event.system_fingerprint for event in events} == {"strongroom"}
        assert len(events) > 4
        with client.completions.with_streaming_response.create(
            model=ATLAS, prompt="w9", max_tokens=3, stream=True
        ) as response:
            lines = [line for line in response.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"


def test_stop_sequences_end_an_answer_and_stay_out(tmp_path: Path) -> None:
    with gateway(tmp_path, honest(0.001)) as live:
        client = live.client()
        for stop in ("w8", ["w400", " w8 w9"]):
            for stream in (False, True):
                said = client.completions.create(model=ATLAS, prompt="w5", max_tokens=200, stop=stop, stream=stream)
                choices = [one.choices[0] for one in said] if stream else [said.choices[0]]
                expected = "w6 w7 " if stop == "w8" else "w6 w7"
                assert "".join(choice.text for choice in choices) == expected
                assert choices[-1].finish_reason == "stop"


def test_errors_are_those_of_the_client(tmp_path: Path) -> None:
    with gateway(tmp_path) as live:
        with pytest.raises(openai.AuthenticationError):
            live.client("sk-strongroom-of-nobody").models.list()
        client = live.client()
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="boreas", prompt="w5")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("boreas")
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.embeddings.create(model=ATLAS, input="w5")
        assert refused.value.code == "egress-output"
        with pytest.raises(openai.BadRequestError, match="4096 tokens together"):
            client.completions.create(model=ATLAS, prompt="w5", max_tokens=5000)


@pytest.mark.parametrize(
    "members",
    [
        {"logprobs": True},
        {"logprobs": 5},
        {"top_logprobs": 2, "logprobs": True},
        {"logit_bias": {"50": 100}},
        {"n": 2},
        {"seed": 7},
        {"extra_body": {"echo": True}},
        {"extra_body": {"best_of": 2}},
        {"extra_body": {"prompt_logprobs": 1}},
        {"extra_body": {"top_k": 5}},
        {"presence_penalty": 1.0},
        {"tools": []},
        {"response_format": {"type": "json_object"}},
        {"temperature": 2.5},
        {"stop": ["w1", "w2", "w3", "w4", "w5"]},
        {"stop": ""},
    ],
)
def test_what_is_not_on_the_list_is_refused(members: dict[str, Any], tmp_path: Path) -> None:
    with gateway(tmp_path) as live, pytest.raises(openai.BadRequestError) as refused:
        live.client().chat.completions.create(model=ATLAS, messages=HELLO, **members)
    named = {*members, *members.get("extra_body", {})}
    assert refused.value.code == "field-refused"
    assert str(refused.value.param).split(".")[0] in named


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"model": "atlas"}).encode(),
        json.dumps({"model": "atlas", "prompt": ["w5"]}).encode(),
        json.dumps({"model": "atlas", "prompt": [5, 6]}).encode(),
        json.dumps({"model": "atlas", "prompt": "w5", "max_tokens": "8"}).encode(),
        json.dumps({"model": "atlas", "prompt": "w5", "max_tokens": 0}).encode(),
        json.dumps({"model": "atlas", "prompt": "w5", "stream": 1}).encode(),
        b'{"model":"atlas","prompt":"w5","temperature":NaN}',
        b'{"model":"atlas","prompt":"\\ud800","max_tokens":2}',
    ],
)
def test_malformed_bodies_are_400(body: bytes, tmp_path: Path) -> None:
    with gateway(tmp_path) as live:
        assert live.post("/v1/completions", body).status_code == 400
        assert live.post("/v1/completions", b"x" * (3 << 20)).status_code == 400
        assert live.complete().status_code == 200


def test_paths_that_engines_have_are_not_there(tmp_path: Path) -> None:
    with gateway(tmp_path) as live:
        for path in ("/metrics", "/tokenize", "/invocations", "/v1/responses", "/docs", "/openapi.json", "/"):
            assert live.post(path, {}).status_code in {404, 405}, path
        assert httpx2.get(live.url + "/v1/models").status_code == 401
        assert "server" not in httpx2.get(live.url + "/v1/models").headers


def test_an_answer_that_nobody_reads_is_ended(tmp_path: Path) -> None:
    model = Counting(0.002)
    with gateway(tmp_path, counted(model)) as live:
        client = live.client()
        for _ in range(3):
            events = client.completions.create(model=ATLAS, prompt="w5", max_tokens=4000, stream=True)
            next(iter(events))
            events.close()
        with pytest.raises(openai.APITimeoutError):
            live.client(timeout=0.3).completions.create(model=ATLAS, prompt="w5", max_tokens=4000)
        until = time.monotonic() + 60
        said = -1
        while model.said != said:
            assert time.monotonic() < until
            said = model.said
            time.sleep(0.3)
        # Were they under way still, there would be as many tokens of each of the four.
        client.completions.create(model=ATLAS, prompt="w5", max_tokens=100)
        assert said < 4 * 4000 / 2
        assert model.said - said < 200
