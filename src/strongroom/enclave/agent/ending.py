"""What the launcher is told of a command's end. Pure.

A command whose output is metered could say 8 bits more with its exit code, and choose among signals. Of it no more
passes than one of three words: it ended well, it ended otherwise, or its model doesn't answer as when it was sealed.
"""

from __future__ import annotations

from strongroom.enclave.engine.canaries import MISMATCH_EXIT
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.sealing.errors import CanaryMismatchError


def told_ending(profile: SandboxProfile, status: ExitStatus) -> ExitStatus:
    """Return what the launcher is told; all of it, unless the command's output is metered.

    :raises CanaryMismatchError: a metered command says so by its exit code.
    """
    if OUTPUT not in profile.environment:
        return status
    if status.code == MISMATCH_EXIT:
        raise CanaryMismatchError(
            "the opened model doesn't answer as when it was sealed; it served nothing",
            remedy="look at the machine and at what was sealed; don't serve this version until the two agree",
        )
    return ExitStatus(0 if status.succeeded else 1, None)
