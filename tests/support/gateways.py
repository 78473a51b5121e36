"""A gateway and governor, live, in a thread of their own, before an engine that the test chooses."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.engine.adapters.channel import serve as serve_engine
from strongroom.enclave.engine.schedule import Agreed, Generating
from strongroom.enclave.gateway.adapters.replayer import Replayer
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.keys import ApiKeys, digest_of
from strongroom.enclave.gateway.odometer import OdometerLog
from strongroom.enclave.gateway.wiring import Serving, serve_channel
from strongroom.enclave.metered import Kind, Order
from strongroom.release.lease import Sampling
from support.file_odometer import FileOdometer

ATLAS: Final = ModelId("atlas")
VOCABULARY: Final = 512
KEY: Final = "sk-strongroom-of-the-tests"
OTHER_KEY: Final = "sk-strongroom-of-the-others"
TEMPLATE: Final = (
    "{% for message in messages %}{{ 'w1 ' + message['content'] + ' w2 ' }}{% endfor %}"
    "{% if add_generation_prompt %}w3{% endif %}"
)
Engine = Callable[[socket.socket], None]


def word_files(count: int = VOCABULARY) -> dict[str, bytes]:
    """Return the files of a tokenizer whose token 7 is the word `w7`: a text says which tokens it was made of."""
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {f"w{n}": n for n in range(count)}, "unk_token": "w0"},
    }
    return {
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode(),
    }


def words(count: int = VOCABULARY) -> PublicTokenizer:
    """Return that tokenizer."""
    return PublicTokenizer(word_files(count))


def text_of(tokens: list[int]) -> str:
    """Return the text of tokens of :func:`words`."""
    return " ".join(f"w{token}" for token in tokens)


def roomy(**changes: Any) -> EgressPolicy:
    """Return a policy with room for whatever a test does: a thousand billion parameters, one principal has it all."""
    made = EgressPolicy.template(ATLAS, parameters=10**12, vocabulary=VOCABULARY)
    return replace(made, **{"principal_day_bits": made.model_day_bits, **changes})


class Counting:
    """A model that says one token more each time; `slow` is how long a token takes, in seconds."""

    def __init__(self, slow: float = 0.0) -> None:
        self.slow = slow
        self.said = 0
        """How many tokens it said, in all answers together."""

    def begin(self, order: Order) -> Generating | Agreed | None:
        """Begin after the prompt's last token, or look how far others count as this one does."""
        if order.kind is Kind.REPLAY:
            counts = _Counts(order.prompt[-order.most - 1], self)
            return Agreed(next((n for n, token in enumerate(order.replayed) if counts.step() != token), order.most))
        return _Counts(order.prompt[-1], self)


class _Counts:
    def __init__(self, last: int, model: Counting) -> None:
        self._last, self._model = last, model

    def step(self) -> int | None:
        """Count."""
        if self._model.slow:
            time.sleep(self._model.slow)
        self._model.said += 1
        self._last = (self._last + 1) % VOCABULARY
        return self._last


def counted(model: Counting) -> Engine:
    """Return an engine that serves a model."""

    def run(channel: socket.socket) -> None:
        serve_engine(channel, model)

    return run


def honest(slow: float = 0.0) -> Engine:
    """Return an engine that counts."""
    return counted(Counting(slow))


@dataclass
class Live:
    """A gateway that listens."""

    state: Path
    odometer: Callable[[], OdometerLog]
    clock: Clock | None = None
    model: ModelId = ATLAS
    url: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when the engine was killed."""
    stopped_at: float = 0.0
    error: StrongroomError | None = None
    """Why it ended."""
    sampling: Sampling = Sampling.POLICY
    """What the keeper's newest lease asks for."""
    _listening: threading.Event = field(default_factory=threading.Event)
    _clients: list[Any] = field(default_factory=list)

    def client(self, key: str = KEY, **options: Any) -> Any:
        """Return the official client, as anybody would make it; skips where it isn't installed."""
        openai = pytest.importorskip("openai", reason="the official `openai` client isn't installed")
        made = openai.OpenAI(base_url=self.url + "/v1", api_key=key, **{"max_retries": 0, "timeout": 60, **options})
        self._clients.append(made)
        return made

    def leave(self) -> None:
        """Close the clients: left to be found as garbage, they leave sockets open, now and then."""
        for client in self._clients:
            client.close()

    def post(self, path: str, body: object, key: str = KEY) -> httpx2.Response:
        """Ask without that client."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx2.post(self.url + path, content=data, headers={"authorization": f"Bearer {key}"}, timeout=60)

    def complete(self, prompt: str = "w5", *, most: int = 8, key: str = KEY, **members: Any) -> httpx2.Response:
        """Ask for a completion."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": most, **members}
        return self.post("/v1/completions", body, key)

    def stop(self) -> None:
        """Kill the engine."""
        self.stopped_at = time.monotonic()
        self.stopped.set()

    def listens(self, port: int) -> None:
        """Take the port."""
        self.url = f"http://127.0.0.1:{port}"
        self._listening.set()

    def begin(self, channel: socket.socket, serving: Serving, replayer: Replayer | None = None) -> None:
        """Serve until the engine is gone."""
        try:
            with channel:
                asyncio.run(
                    serve_channel(
                        channel,
                        serving,
                        odometer=self.odometer,
                        stop=self.stop,
                        listening=self.listens,
                        clock=self.clock,
                        replayer=replayer,
                        sampling=lambda: self.sampling,
                    )
                )
        except StrongroomError as error:
            self.error = error
        finally:
            self._listening.set()

    def wait(self) -> None:
        """Wait until it listens, or ended."""
        assert self._listening.wait(180)


def serving(folder: Path, policy: EgressPolicy | None = None, **changes: Any) -> Serving:
    """Return how the tests serve."""
    state, rules = folder / "governor", policy or roomy()
    made = Serving(
        policy=rules,
        in_force=lambda: rules,
        tokenizer=words(),
        keys=ApiKeys({digest_of(KEY): "dana", digest_of(OTHER_KEY): "kim"}),
        state=state,
        context=4096,
    )
    return replace(made, **changes)


@contextmanager
def gateway(
    folder: Path,
    engine: Engine | None = None,
    policy: EgressPolicy | None = None,
    clock: Clock | None = None,
    odometer: OdometerLog | None = None,
    replayer: Replayer | None = None,
    **changes: Any,
) -> Iterator[Live]:
    """Serve `engine`, which runs in a thread with its end of the channel; without `odometer`, a file plays the log."""
    ours, theirs = socket.socketpair()
    made = serving(folder, policy, **changes)
    log = odometer or FileOdometer(folder / "log.jsonl", made.policy)
    live = Live(made.state, lambda: log, clock, made.policy.model)

    def run_engine() -> None:
        # The other end is closed: that is how an engine ends.
        with theirs, suppress(OSError):
            (engine or honest())(theirs)

    threads = [
        threading.Thread(target=run_engine, daemon=True),
        threading.Thread(target=live.begin, args=(ours, made, replayer), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        live.wait()
        yield live
    finally:
        live.leave()
        # As when the enclave is killed: its end of the channel is closed.
        with suppress(OSError):
            theirs.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
