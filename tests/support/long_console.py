"""A deployment with much in its log that a console is served before, in a folder that is used again.

Making the log takes minutes, and what is asked of it seconds. Requests in it are good for a day: after that, none is
open, and the folder is to be made anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from strongroom.access.policy import Policy
from strongroom.client.wallet import SecurityKeys
from strongroom.core.genesis import Genesis
from strongroom.personnel.roster import Roster
from support.brokers import RunningBroker
from support.consoles import NAMES, Holder, RunningConsole, free_port, served
from support.deployment import Deployment
from support.occupied import Occupied

_DONE: Final = "long-console.json"


def keep(live: RunningConsole, folder: Path, **made: int) -> None:
    """Write down what a deployment is reopened with, and what was made in it; the last thing done to its folder."""
    deployment = live.occupied.deployment
    for name, holder in live.holders.items():
        pem = holder.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}-key.pem").write_bytes(pem)
    (folder / "roster.json").write_bytes(deployment.roster.to_bytes())
    (folder / "policy.json").write_bytes(deployment.policy.to_bytes())
    (folder / _DONE).write_text(json.dumps(made))


def kept(folder: Path) -> dict[str, int] | None:
    """Return what was made in the deployment that was left in a folder; None where none is, or no whole one."""
    done = folder / _DONE
    return json.loads(done.read_text()) if done.exists() else None


@contextmanager
def reopened(folder: Path, *, keeper_module: str) -> Iterator[RunningConsole]:
    """Run what was left in a folder, and a console before it."""
    home, place = folder / "home", folder / "console"
    genesis = Genesis.parse((home / "genesis.json").read_bytes())
    roster = Roster.parse((folder / "roster.json").read_bytes())
    policy = Policy.parse((folder / "policy.json").read_bytes())
    with Deployment(home, genesis, roster, policy, keeper_module=keeper_module) as deployment:
        deployment.start("log")
        deployment.start("keeper")
        running = RunningBroker(home, genesis, None)  # type: ignore[arg-type]  # the real one runs
        running.start(identity=True)
        try:
            lab = Occupied(deployment, running)
            with served(lab, place, {name: _holder(folder, name) for name in NAMES}, free_port()) as live:
                yield live
        finally:
            running.stop()


def _holder(folder: Path, name: str) -> Holder:
    keys = SecurityKeys.parse((folder / f"{name}-wallet" / "security-keys.json").read_bytes())
    private = load_pem_private_key((folder / f"{name}-key.pem").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    # A key's counter never goes back.
    return Holder(keys, private, counter=int(time.time()))
