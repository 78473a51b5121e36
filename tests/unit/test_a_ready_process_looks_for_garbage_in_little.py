"""What a process consists of once it serves is looked through for garbage no more: no visit, no freeze waits for it."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import gc, json, weakref
import strongroom.console.wiring
from strongroom.ipc.adapters.process import say_ready

class Ring:
    pass

one = Ring()
one.itself = one
seen = weakref.ref(one)
del one
before = len(gc.get_objects())
say_ready("test")
print(json.dumps([before, gc.get_freeze_count(), len(gc.get_objects()), seen() is None, gc.isenabled()]))
"""


def test_what_is_there_when_a_process_serves_is_looked_through_once() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True).stdout
    ready, counted = told.splitlines()
    assert json.loads(ready)["ready"] == "test"
    before, frozen, rest, collected, enabled = json.loads(counted)
    assert frozen > 0.9 * before
    assert rest < 0.1 * before
    # What was garbage by then was taken away first, and what is made from now on still is.
    assert (collected, enabled) == (True, True)
