"""64 streams at once, of two principals, until the budget is gone: not one bit more than it had came out."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.egress.bits import Output
from strongroom.egress.policy import EgressPolicy
from support.clocks import FixedClock
from support.deployment import MODEL
from support.gateways import ATLAS, KEY, OTHER_KEY, gateway, honest, roomy, text_of
from support.metered_lab import metered_lab, software_tpm

pytestmark = pytest.mark.integration
STREAMS = 64
MOST = 50
DAY = 100_000
"""Bits: 9 each token, so that some 11,000 tokens are in it."""


def stream(url: str, key: str, number: int) -> tuple[list[int], list[str]]:
    """Ask again and again until it is refused; returns how many tokens each answer had, and how it was refused."""
    answers: list[int] = []
    refusals: list[str] = []
    body = {"model": MODEL, "prompt": text_of([number]), "max_tokens": MOST, "stream": True}
    with httpx2.Client(timeout=60, headers={"authorization": f"Bearer {key}"}) as client:
        while not refusals:
            with client.stream("POST", url + "/v1/completions", json=body) as response:
                if response.status_code == 429:
                    response.read()
                    refusals.append(response.json()["error"]["code"])
                    assert int(response.headers["retry-after"]) >= 1
                    continue
                assert response.status_code == 200
                texts = [
                    json.loads(line[6:])["choices"][0]["text"]
                    for line in response.iter_lines()
                    if line.startswith("data: {")
                ]
                answers.append(len("".join(texts).split()))
    return answers, refusals


def test_never_one_bit_more(tmp_path: Path) -> None:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    rules = roomy(model_day_bits=DAY, fleet_day_bits=DAY, principal_day_bits=DAY * 3 // 4)
    policy = replace(rules, model=ModelId(MODEL))
    # The governor's clock stands, so that nothing refills while the test runs, and the budget is what it is to the bit.
    clock = FixedClock(int(time.time()))
    with software_tpm(tmp_path) as tpm, metered_lab(tmp_path, tpm, policy) as lab:
        with (
            lab.released()[0].odometer() as odometer,
            gateway(tmp_path, honest(0.00002), policy, clock, odometer) as live,
            ThreadPoolExecutor(STREAMS) as pool,
        ):
            ends = list(pool.map(lambda n: stream(live.url, (KEY, OTHER_KEY)[n % 2], n), range(STREAMS)))
        charged = [sum(policy.cost(Output.TOKENS, n, most=MOST) for n in end[0]) for end in ends]
        assert sum(charged) <= DAY
        assert max(sum(charged[::2]), sum(charged[1::2])) <= DAY * 3 // 4
        # And what it had was used, but for what one more answer of the last who asked could have cost.
        assert sum(charged) > DAY - policy.cost(Output.TOKENS, MOST, most=MOST)
        refusals = {reason for end in ends for reason in end[1]}
        assert refusals <= {"egress-limit.principal-day", "egress-limit.model-day", "egress-limit.fleet-day"}
        # The deployment's log, verified from its first entry on, had all of it before it left.
        found = lab.entries(EventName.ODOMETER_ADVANCED)
        assert found[-1].integer("total") == lab.spent() >= sum(charged)


def test_what_is_not_used_goes_back(tmp_path: Path) -> None:
    policy = roomy(model_day_bits=5000, fleet_day_bits=5000, principal_day_bits=5000)
    with gateway(tmp_path, honest(0.002), policy) as live:
        # Each reserves nearly the whole day and uses little of it: a stop sequence ends it.
        for _ in range(5):
            time.sleep(0.3)  # until the engine has ended the answer before: so long its bits are held
            answer = live.complete("w5", most=500, stop=["w8"]).json()
            assert answer["choices"][0]["text"].split() == ["w6", "w7"]
        refused = live.complete("w5", most=600)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_exceeded"


def test_a_life_that_is_over_says_not_to_try_again(tmp_path: Path) -> None:
    # A small model with a life of 1,000 bits.
    policy = replace(
        EgressPolicy.template(ATLAS, parameters=1_000_000, vocabulary=512),
        lifetime_permille=1,
        model_day_bits=1000,
        fleet_day_bits=1000,
        principal_day_bits=1000,
    )
    assert policy.lifetime_bits == 400
    with gateway(tmp_path, policy=policy) as live:
        tokens = 0
        while (answer := live.complete("w5", most=8)).status_code == 200:
            tokens += answer.json()["usage"]["completion_tokens"]
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "egress-limit.lifetime"
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        assert 0 < tokens * 9 <= 400
    # Neither does a restart help.
    with gateway(tmp_path, policy=policy) as live:
        assert live.complete("w5", most=8).status_code == 429
