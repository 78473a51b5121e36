"""A Llama in a measured machine answers the official client with the unsealed model's tokens; and no host gets more.

One machine, emulated and so slow, serves all of it. What the steps took is printed, and not judged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.errors import StrongroomError
from strongroom.enclave.metered import Kind, Order
from strongroom.enclave.taximeter import TaximeterError
from strongroom.enclave.vm.adapters.qemu import VmRunning
from strongroom.enclave.vm.messages import OrdersIn
from support import tiny_llama
from support.deployment import MODEL
from support.gateways import text_of
from support.vm_lab import ENGINE, VmLab, require_tools, vm_lab
from support.vm_serving import Serves, serving_machine

pytestmark = [pytest.mark.integration, pytest.mark.heavy, pytest.mark.timeout(900)]
PROMPTS = ([5, 9, 200, 31], [400, 2, 17])
MOST = 40


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VmLab]:
    kernel = require_tools(boot=True)
    (tmp_path / "tpm").mkdir()
    with SoftwareTPM(tmp_path / "tpm") as tpm, vm_lab(tmp_path, tpm, kernel, ENGINE) as made:
        yield made


def streamed(serves: Serves, prompt: list[int]) -> str:
    events = serves.client().completions.create(
        model=MODEL, prompt=text_of(prompt), max_tokens=MOST, temperature=0, stream=True
    )
    return "".join(event.choices[0].text for event in events)


def test_the_same_tokens_come_out_and_no_more_than_the_log_vouches_for(tmp_path: Path, lab: VmLab) -> None:
    expected = [text_of(tiny_llama.greedy(tmp_path / "plain", prompt, MOST)) for prompt in PROMPTS]
    began = time.monotonic()
    with serving_machine(lab, tmp_path) as serves:
        assert serves.why() is None, repr(serves.why())
        print(f"\nroot disk {lab.image.root.data_bytes:,} bytes")  # noqa: T201 - a measurement, not judged
        print(f"from the start to a model that answers: {time.monotonic() - began:.1f} s")  # noqa: T201 - as above
        began = time.monotonic()
        assert streamed(serves, PROMPTS[0]) == expected[0]
        print(f"{MOST} tokens in {time.monotonic() - began:.2f} s")  # noqa: T201 - as above
        both: dict[int, str] = {}
        threads = [
            threading.Thread(target=lambda at=at: both.update({at: streamed(serves, PROMPTS[at])})) for at in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [both[0], both[1]] == expected
        spent = serves.port.odometer(MODEL)
        assert spent.total > 0
        taken_over(serves)
    ended = serves.why()
    assert isinstance(ended, TaximeterError)
    assert ended.reason == "taximeter.not-vouched"
    # Beyond the machine too: the host that did it reported it, and whatever else was released of the model ends.
    assert serves.port.odometer(MODEL).frozen
    assert serves.port.odometer(MODEL).total == spent.total


def taken_over(serves: Serves) -> None:
    """As a host would whose gateway was taken over: orders past the governor, until something gives."""
    assert serves.watched.engine is not None
    running = serves.watched.engine.running
    assert isinstance(running, VmRunning)
    with suppress(StrongroomError):
        for answer in range(900, 1000):
            order = Order(kind=Kind.GENERATE, answer=answer, most=(1 << 24) - 1, prompt=(1,))
            running._say(OrdersIn(order.to_bytes()), 10)
    until = time.monotonic() + 60
    while serves.why() is None and time.monotonic() < until:
        time.sleep(0.1)
