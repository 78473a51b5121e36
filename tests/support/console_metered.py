"""A model of a console's deployment whose gateway let something out: its odometer in the log, its egress policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.canonical import Json
from strongroom.keys.recipient import RecipientKey
from support.deployment import MODEL
from support.metered import POLICY, policies, signed
from support.occupied import Machine, Occupied, done


def meter(lab: Occupied, folder: Path, readings: Sequence[int]) -> None:
    """Open the model on a machine, and have its gateway take blocks up to these readings, in bits."""
    egress = signed(policies(lab.deployment.genesis, POLICY))
    lab.post("documents/egress", {"envelope": egress.to_json()}, by="root-0")
    folder.mkdir(parents=True, exist_ok=True)
    with SoftwareTPM(folder) as tpm:
        machine = Machine(lab, tpm)
        machine.prepare()
        request = machine.ask()
        lab.approve(request)
        delivery = done(machine.try_open(request, RecipientKey()))["delivery"]
    gateway = lab.caller("gpu-1", enclave=True)
    done(gateway.post("/v1/egress/runs", {"delivery": delivery, "seen": None}))
    for reading in readings:
        block: Json = {
            "model": str(MODEL), "run": 1, "through": reading, "settled": 0, "tokens": reading // 10, "verified": 0,
        }  # fmt: skip
        answer = gateway.post("/v1/egress/blocks", {"delivery": delivery, "block": block})
        while answer.status != 200:
            # A gateway asks once an hour; this one asks as often as it may.
            assert answer.json["code"] == "egress-busy", answer.text
            time.sleep(0.5)
            answer = gateway.post("/v1/egress/blocks", {"delivery": delivery, "block": block})
