"""The light engine as the command of an enclave: ``python -m strongroom.enclave.engine.light.wiring``."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from strongroom.enclave.engine.adapters.numpy_llama import NumpyLlama
from strongroom.enclave.engine.wiring import run


def main() -> int:
    """Serve the Llama at ``STRONGROOM_MODEL``; ends when the channel does."""
    with socket.socket(fileno=0) as channel:
        return run(channel, Path(os.environ["STRONGROOM_MODEL"]), NumpyLlama)


if __name__ == "__main__":
    sys.exit(main())
