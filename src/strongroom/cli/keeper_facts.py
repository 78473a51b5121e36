"""What ``doctor`` asks a running keeper about itself: its walls, where it keeps its keys, and what a hold set aside."""

from __future__ import annotations

import asyncio
from pathlib import Path

from strongroom.core.errors import StrongroomError
from strongroom.enclave.facts import Fact, FactState
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keeper.adapters.files import MOST_ASIDE

_SECONDS = 5.0
_HIDDEN = "memfd-secret"


def keeper_facts(home: Path) -> tuple[Fact, ...]:
    """Return what the keeper at ``home`` says of its guards; nothing where this user can ask none."""
    socket = home / "run" / "keeper.sock"
    if not socket.exists():
        return ()
    try:
        reach, files, secrets, anchor = asyncio.run(_ask(socket))
    except (StrongroomError, OSError):
        return ()
    return (_walls(reach, files), _secrets(secrets), _anchor(anchor))


async def _ask(socket: Path) -> tuple[str, int, str, str]:
    client = UnixClient(socket, seconds=_SECONDS)
    try:
        with await client.call("walls") as answer:
            answer.value("system_calls")
            return (
                answer.text("reach", max_length=32),
                answer.integer("files"),
                answer.text("secrets", max_length=32),
                answer.text("anchor", max_length=1024),
            )
    finally:
        await client.close()


def _walls(reach: str, files: int) -> Fact:
    if files:
        seen = f"system calls ({reach}) and files (Landlock {files}) are shut"
        return Fact(name="keeper's walls", state=FactState.OK, seen=seen, lost="", mend="")
    return Fact(
        name="keeper's walls",
        state=FactState.DEGRADED,
        seen=f"system calls ({reach}) are shut, files aren't",
        lost="a keeper that is taken over reads whatever its user may",
        mend="boot with Landlock in the `lsm=` list (Linux 6.2 or newer); a PKCS#11 library does without",
    )


def _secrets(secrets: str) -> Fact:
    if secrets == _HIDDEN:
        return Fact(name="keeper's keys", state=FactState.OK, seen="in memfd_secret memory", lost="", mend="")
    return Fact(
        name="keeper's keys",
        state=FactState.DEGRADED,
        seen="in locked memory",
        lost="root reads them out of the keeper's memory",
        mend="boot with `secretmem.enable=1` on Linux 5.14 or newer",
    )


def _anchor(anchor: str) -> Fact:
    if anchor:
        return Fact(name="pins' anchor", state=FactState.OK, seen=anchor, lost="", mend="")
    return Fact(
        name="pins' anchor",
        state=FactState.DEGRADED,
        seen="none",
        lost="all disks put back to the same day go unseen, but for witnesses and people",
        mend="strongroom pin-anchor make",
    )


def held_facts(home: Path) -> tuple[Fact, ...]:
    """Return how many files of decisions and evidence a hold has set aside; nothing where it has none."""
    try:
        aside = {kind: len([*(home / "keeper").glob(f"{kind}.held-*.jsonl")]) for kind in ("decisions", "attested")}
    except OSError:
        return ()
    if not any(aside.values()):
        return ()
    full = [kind for kind, count in aside.items() if count >= MOST_ASIDE]
    return (
        Fact(
            name="held records",
            state=FactState.DEGRADED if full else FactState.OK,
            seen=", ".join(f"{count} of {MOST_ASIDE} files of `{kind}` set aside" for kind, count in aside.items()),
            lost=f"newer records of {' and '.join(full)} are overwritten although a hold stands" if full else "",
            mend="make a backup, then move keeper/*.held-*.jsonl to where the evidence is kept" if full else "",
        ),
    )
