"""The broker's real process with two things changed: it may be called often, and it may kill itself in a write.

Arguments: the store's method in which it dies by SIGKILL before anything is written (or nothing), the home, and
`identity` for one with an identity listener.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from strongroom.broker.adapters.store import Store
from strongroom.broker.gate import Limits
from strongroom.broker.wiring import run_broker
from strongroom.core.buckets import Rate

DIES_IN = sys.argv[1]


async def die(*_given: object, **_named: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit


def open_store(path: Path) -> Store:
    store = Store.open(path)
    if DIES_IN:
        assert hasattr(store, DIES_IN)
        setattr(store, DIES_IN, die)
    return store


run_broker(
    Path(sys.argv[2]),
    port=0,
    identity_port=0 if "identity" in sys.argv[3:] else None,
    limits=Limits(rate=Rate(per_second=1e6, burst=10**6)),
    open_store=open_store,
)
