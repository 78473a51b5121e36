"""Run as the command of an enclave: reads the opened model, then answers on descriptor 0, the metered channel.

Before it says that the model is open, it asks it what it was asked when it was sealed, and ends if it answers
otherwise. It prints nothing: standard output and error lead nowhere when the image says that its output is metered.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from strongroom.enclave.engine.adapters.channel import serve
from strongroom.enclave.engine.adapters.transformers_model import open_model
from strongroom.enclave.engine.canaries import CANARY_FILE, MISMATCH_EXIT, compare
from strongroom.enclave.engine.schedule import Model
from strongroom.sealing.canary import MAX_CANARY_FILE, Canary, read_canaries
from strongroom.sealing.errors import CanaryMismatchError


def main() -> int:
    """Serve the model at ``STRONGROOM_MODEL``; ends when the channel does."""
    with socket.socket(fileno=0) as channel:
        return run(channel, Path(os.environ["STRONGROOM_MODEL"]), open_model)


def run(channel: socket.socket, folder: Path, open_it: Callable[[Path], Model]) -> int:
    """Open, compare and serve; returns how the process is to end."""
    with suppress(BrokenPipeError, ConnectionResetError):
        model = open_it(folder)
        try:
            compare(model, _canaries(folder / CANARY_FILE))
        except CanaryMismatchError:
            return MISMATCH_EXIT
        serve(channel, model)
    return 0


def _canaries(file: Path) -> tuple[Canary, ...]:
    try:
        with file.open("rb") as stream:
            return read_canaries(stream.read(MAX_CANARY_FILE + 1))
    except FileNotFoundError:
        return ()


if __name__ == "__main__":
    sys.exit(main())
