"""Another user of the machine: a forked child that gives up everything, tries one thing, and says what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NoReturn

from strongroom.attacks.ending import RefusedError, code_of

NOBODY: Final = 65534
MAX_ANSWER: Final = 4096


def as_user(uid: int, act: Callable[[], object]) -> str:
    """Carry out an act as another user; needs root. Returns what it gained.

    :raises RefusedError: it was refused there; with the errno's name.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _act_and_end(uid, act, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        told = answers.read(MAX_ANSWER).decode(errors="replace")
    os.waitpid(child, 0)
    kind, _, said = told.partition(":")
    if kind != "gained":
        raise RefusedError(said, f"as user {uid}")
    return said


def _act_and_end(uid: int, act: Callable[[], object], writing: int) -> NoReturn:
    # Whatever happens, this process ends here: it must never return into the suite.
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        told = f"gained:{act()}"
    except BaseException as error:  # noqa: BLE001 - told to the parent, by its code
        told = f"refused:{code_of(error)}"
    os.write(writing, told.encode()[:MAX_ANSWER])
    os._exit(0)
