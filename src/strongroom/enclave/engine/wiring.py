"""Run as the command of an enclave: reads the opened model, then answers on descriptor 0, the metered channel.

It prints nothing: standard output and error lead nowhere when the image says that its output is metered.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from strongroom.enclave.engine.adapters.channel import serve
from strongroom.enclave.engine.adapters.transformers_model import TransformersModel


def main() -> int:
    """Serve the model at ``STRONGROOM_MODEL``; ends when the channel does."""
    with socket.socket(fileno=0) as channel, suppress(BrokenPipeError, ConnectionResetError):
        serve(channel, TransformersModel(Path(os.environ["STRONGROOM_MODEL"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
