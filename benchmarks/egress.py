"""What metering costs: tokens a second through gateway and governor, without the governor, and through a plain proxy.

One engine that costs nothing (it counts), one client for each stream, all on this machine, all in the same run:

- direct     the engine's own server, which makes the same events from the same tokens, nothing metered
- proxy      a plain reverse proxy (Starlette and httpx2) before it
- ungoverned the gateway and the metered channel, its governor replaced by one that allows everything
- governed   the gateway and the metered channel as they are

Latency is that of each token, from the engine's hand to the client's, with an engine that is paced, so that tokens
come alone. Under load the gateway puts tokens that are there at once into one event; an engine's own server makes one
event of each. Tokens an event are printed beside the rates. Bytes are those on the metered channel, ends of
answers included.

Where torch is installed, it ends with what a second engine costs and gives: a Llama of chance is served by one engine
and replayed by the other, both ways, one answer after the other on this machine; the price is that of one answer.

    python benchmarks/egress.py [--streams N] [--tokens N] [--rounds N] [--replay-only]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from strongroom.egress.bits import Output
from strongroom.egress.governor import Governor
from strongroom.enclave.engine.adapters.channel import serve as serve_engine
from strongroom.enclave.engine.schedule import Model
from strongroom.enclave.gateway.answers import DONE, Form
from strongroom.enclave.gateway.wiring import serve_channel
from strongroom.enclave.metered import FRAME, Kind, Order
from support.egress import VERIFIED_BY
from support.file_odometer import FileOdometer
from support.gateways import ATLAS, KEY, VOCABULARY, Counting, roomy, serving, text_of

PATH: Final = "/v1/completions"
PACE: Final = 0.005
"""Seconds between tokens where latency is measured."""
SPAWN: Final = multiprocessing.get_context("spawn")


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_app(app: Starlette, port: int) -> None:
    """Serve an application until killed."""
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off", ws="none")


def direct(port: int, pace: float) -> None:
    """Serve the counting model over HTTP, as engines do: events made beside the weights."""

    async def complete(request: Request) -> StreamingResponse:
        body = json.loads(await request.body())
        last, most = int(body["prompt"].split()[-1][1:]), body["max_tokens"]
        form = Form(name="cmpl-0", model=ATLAS, created=0, chat=False)

        async def events() -> Any:
            for number in range(most):
                await asyncio.sleep(pace)
                stamp = f" t{time.monotonic_ns()}" if pace else ""
                yield form.piece(f" w{(last + 1 + number) % VOCABULARY}{stamp}")
            yield form.closing("length")
            yield DONE

        return StreamingResponse(events(), media_type="text/event-stream")

    run_app(Starlette(routes=[Route(PATH, complete, methods=["POST"])]), port)


def proxy(port: int, behind: int) -> None:
    """Pass requests on, and answers back, untouched."""
    client = httpx2.AsyncClient(timeout=None, limits=httpx2.Limits(max_connections=256))

    async def pass_on(request: Request) -> StreamingResponse:
        asked = client.build_request("POST", f"http://127.0.0.1:{behind}{PATH}", content=await request.body())
        answer = await client.send(asked, stream=True)

        async def body() -> Any:
            async for part in answer.aiter_raw():
                yield part
            await answer.aclose()

        return StreamingResponse(body(), answer.status_code, media_type="text/event-stream")

    run_app(Starlette(routes=[Route(PATH, pass_on, methods=["POST"])]), port)


class Stamping(socket.socket):
    """The engine's end of the channel, which counts bytes and notes when each token was handed over."""

    def __init__(self, descriptor: int, notes: str) -> None:
        super().__init__(fileno=descriptor)
        self._notes = Path(notes)
        self._bytes, self._stamps = 0, []  # type: ignore[var-annotated]

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send and note."""
        frames = [data[at : at + FRAME] for at in range(0, len(data), FRAME)]
        now = time.monotonic_ns()
        self._bytes += len(data)
        self._stamps += [now for frame in frames if not frame[1] & 0x0F]
        super().sendall(data, flags)
        if any(frame[1] & 0x0F for frame in frames):
            self._notes.write_text(json.dumps({"bytes": self._bytes, "stamps": self._stamps}))


def engine(channel: socket.socket, pace: float, notes: str) -> None:
    """Serve the counting model on the metered channel."""
    try:
        serve_engine(Stamping(channel.detach(), notes), Counting(pace))
    except OSError:
        os._exit(0)


def allow_everything() -> None:
    """Replace the governor's decisions by yes: what is left is the gateway."""

    def reserve(self: Governor, principal: str, model: Any, most: int, now: int, **_more: Any) -> Any:
        from strongroom.egress.governor import Reservation  # noqa: PLC0415

        self._last += 1
        return Reservation(
            number=self._last,
            model=model,
            principal=principal,
            output=Output.TOKENS,
            most=most,
            bits=0,
            expires_at=now + 3600,
            crossed=(),
        )

    nothing: Any = lambda *_a, **_k: None  # noqa: E731
    Governor.reserve = reserve  # type: ignore[method-assign]
    Governor.emit = nothing  # type: ignore[method-assign]
    Governor.settle = nothing  # type: ignore[method-assign]


def gateway(channel: socket.socket, folder: str, port: int, governed: bool) -> None:  # noqa: FBT001 - one process's order
    """Serve the gateway before an engine."""
    if not governed:
        allow_everything()
    Path(folder).mkdir()
    made = serving(Path(folder), roomy(), port=port)
    log = FileOdometer(Path(folder) / "log.jsonl", made.policy)
    asyncio.run(serve_channel(channel, made, odometer=lambda: log, stop=lambda: None, listening=lambda _port: None))


@contextmanager
def running(kind: str, folder: Path, *, pace: float) -> Iterator[tuple[int, Path]]:
    """Start what serves `kind`; yields its port, and where the engine notes what it sent."""
    port, behind, notes = free_port(), free_port(), folder / f"{kind}-{pace}.json"
    starts: list[tuple[Callable[..., None], tuple[Any, ...]]]
    if kind in {"direct", "proxy"}:
        starts = [(direct, (behind, pace)), (proxy, (port, behind))]
        port = behind if kind == "direct" else port
        starts = starts[: 1 if kind == "direct" else 2]
    else:
        ours, theirs = socket.socketpair()
        home = folder / f"{kind}-{pace}-{time.monotonic_ns()}"
        starts = [
            (engine, (theirs, pace, str(notes))),
            (gateway, (ours, str(home), port, kind == "governed")),
        ]
    processes = [SPAWN.Process(target=target, args=args, daemon=True) for target, args in starts]
    for process in processes:
        process.start()
    try:
        for each in (port, behind) if kind == "proxy" else (port,):
            wait_for(each)
        yield port, notes
    finally:
        for process in processes:
            process.kill()
            process.join()


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError


async def ask(client: httpx2.AsyncClient, port: int, number: int, most: int) -> list[tuple[int, str]]:
    """Ask for one streamed answer; returns when each piece came, and it."""
    body = {"model": ATLAS, "prompt": text_of([number]), "max_tokens": most, "stream": True}
    async with client.stream("POST", f"http://127.0.0.1:{port}{PATH}", json=body) as answer:
        answer.raise_for_status()
        return [(time.monotonic_ns(), line) async for line in answer.aiter_lines() if line.startswith("data: {")]


async def load(port: int, streams: int, most: int) -> tuple[float, float]:
    """Run streams at once; returns tokens a second, and tokens an event."""
    headers = {"authorization": f"Bearer {KEY}"}
    limits = httpx2.Limits(max_connections=streams)
    async with httpx2.AsyncClient(timeout=120, headers=headers, limits=limits) as client:
        await ask(client, port, 1, 4)
        began = time.monotonic()
        answers = await asyncio.gather(*(ask(client, port, n, most) for n in range(streams)))
        seconds = time.monotonic() - began
    tokens = sum(
        len([word for word in json.loads(line[6:])["choices"][0]["text"].split() if word.startswith("w")])
        for answer in answers
        for _at, line in answer
    )
    assert tokens == streams * most, (tokens, streams * most)
    return tokens / seconds, tokens / sum(map(len, answers))


async def alone(port: int, most: int) -> list[tuple[int, str]]:
    """Run one stream after a short one."""
    async with httpx2.AsyncClient(timeout=120, headers={"authorization": f"Bearer {KEY}"}) as client:
        await ask(client, port, 1, 2)
        return await ask(client, port, 5, most)


def latencies(kind: str, folder: Path, most: int) -> list[float]:
    """Return microseconds from the engine's hand to the client's, of each token."""
    with running(kind, folder, pace=PACE) as (port, notes):
        came = [(at, json.loads(line[6:])["choices"][0]["text"]) for at, line in asyncio.run(alone(port, most))]
        came = [(at, text) for at, text in came if text]
        if kind in {"direct", "proxy"}:
            return [(at - int(text.split("t")[1])) / 1000 for at, text in came]
        time.sleep(0.2)
        stamps = json.loads(notes.read_text())["stamps"][-most:]
    # On a busy machine two tokens may come in one event.
    each = [at for at, text in came for _word in text.split()]
    return [(at - sent) / 1000 for at, sent in zip(each, stamps, strict=True)]


def llama(folder: Path) -> Path:
    """Write a Llama of chance with 19 million parameters, in float32."""
    import torch  # noqa: PLC0415 - only where it is installed
    import transformers  # noqa: PLC0415 - the same

    torch.manual_seed(20260101)
    config = transformers.LlamaConfig(
        vocab_size=8192,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).eval().save_pretrained(folder)
    return folder


def timed_replay(one: Model, other: Model, seed: int, most: int) -> tuple[float, float, int]:
    """Return seconds of an answer and of its replay, and how many of its tokens were reproduced."""
    sampling: dict[str, int] = {"answer": 0, "most": most, "temperature": 1000, "top_p": 950, "seed": seed}
    prompt = tuple(range(5, 37))
    began = time.monotonic()
    answer: Any = one.begin(Order(kind=Kind.GENERATE, prompt=prompt, **sampling))
    said = tuple(answer.step() for _ in range(most))
    answered = time.monotonic()
    verdict: Any = other.begin(Order(kind=Kind.REPLAY, prompt=(*prompt, *said), **sampling))
    return answered - began, time.monotonic() - answered, verdict.tokens


def replays(most: int, rounds: int) -> dict[str, Any]:
    """Measure what a replay costs beside the answer, and print what it saves."""
    from strongroom.enclave.engine.adapters.numpy_llama import NumpyLlama  # noqa: PLC0415 - only here
    from strongroom.enclave.engine.adapters.transformers_model import TransformersModel  # noqa: PLC0415 - the same

    rules = replace(roomy(vocabulary=128256), residual_millibits_per_token=75, verified_by=VERIFIED_BY)
    full = rules.cost(Output.TOKENS, most, most=most)
    verified = rules.replayed_cost(most, verified=most, most=most)
    print(f"\na token of {rules.vocabulary}: {most} tokens cost {full} bits, replayed and reproduced {verified} bits")
    result: dict[str, Any] = {"tokens": most, "bits": full, "bits_verified": verified}
    with tempfile.TemporaryDirectory() as name:
        folder = llama(Path(name))
        engines: dict[str, Model] = {"torch": TransformersModel(folder), "numpy": NumpyLlama(folder)}
        for one, other in (("torch", "numpy"), ("numpy", "torch")):
            timed_replay(engines[one], engines[other], 1, 32)
            found = [timed_replay(engines[one], engines[other], seed, most) for seed in range(rounds)]
            answer, replay = (statistics.median(each[at] for each in found) for at in (0, 1))
            agreed = sum(each[2] for each in found)
            print(
                f"{one} answers in {answer:.2f} s, {other} replays in {replay:.2f} s: {replay / answer:.3f} of it; "
                f"{agreed} of {most * rounds} tokens reproduced"
            )
            result[f"{one}_by_{other}"] = {"answer_s": answer, "replay_s": replay, "reproduced": agreed / most / rounds}
    return result


def percentile(values: list[float], share: float) -> float:
    """Return a value that so much of them doesn't exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    """Measure, print a table, and end with one line of JSON."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--streams", type=int, default=16)
    reader.add_argument("--tokens", type=int, default=1000)
    reader.add_argument("--rounds", type=int, default=3)
    reader.add_argument("--replay-only", action="store_true")
    asked = reader.parse_args()
    if asked.replay_only:
        print(json.dumps({"replays": replays(asked.tokens, asked.rounds)}))
        return
    kinds = ("direct", "proxy", "ungoverned", "governed")
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    per_token, joined = 0.0, dict.fromkeys(kinds, 0.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _round in range(asked.rounds):
            for kind in kinds:  # side by side: a slow minute of the machine is everybody's
                with running(kind, folder, pace=0) as (port, notes):
                    rate, joined[kind] = asyncio.run(load(port, asked.streams, asked.tokens))
                    rates[kind].append(rate)
                    if kind == "governed":
                        time.sleep(0.2)
                        told = json.loads(notes.read_text())
                        per_token = told["bytes"] / len(told["stamps"])
        delays = {kind: latencies(kind, folder, 400) for kind in kinds}
    result: dict[str, Any] = {"streams": asked.streams, "tokens": asked.tokens, "bytes_per_token": round(per_token, 3)}
    print(f"{'':12}{'tokens/s':>12}{'p50 us':>10}{'p99 us':>10}{'tokens/event':>14}   ({os.cpu_count()} processors)")
    for kind in kinds:
        rate = statistics.median(rates[kind])
        p50, p99 = percentile(delays[kind], 0.5), percentile(delays[kind], 0.99)
        print(f"{kind:12}{rate:12.0f}{p50:10.0f}{p99:10.0f}{joined[kind]:14.1f}")
        result[kind] = {
            "tokens_per_second": round(rate),
            "p50_us": round(p50),
            "p99_us": round(p99),
            "tokens_per_event": round(joined[kind], 1),
        }
    print(f"{per_token:.3f} bytes a token on the metered channel")
    if find_spec("torch") and find_spec("transformers"):
        result["replays"] = replays(asked.tokens, asked.rounds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
