"""The agent of an enclave that is attacked from within: writes files, closes the folder, starts the command."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from strongroom.enclave.adapters.channel import Channel, inherited_descriptor
from strongroom.enclave.adapters.command import start_command
from strongroom.enclave.adapters.model_folder import ModelFolder
from strongroom.enclave.sandbox import SandboxProfile


def main() -> None:
    """Serve one order."""
    channel = Channel.inherited()
    profile = SandboxProfile.from_bytes(os.pread(inherited_descriptor("profile"), 1 << 20, 0))
    order = channel.receive(timeout=30)
    assert isinstance(order, dict)
    folder = ModelFolder.of(profile)
    files = order["files"]
    assert isinstance(files, dict)
    for name, text in files.items():
        assert isinstance(text, str)
        folder.write(name, [text.encode()])
    copies = order["copies"]
    assert isinstance(copies, list)
    for pair in copies:
        assert isinstance(pair, list)
        with Path(str(pair[0])).open("rb") as stream:
            folder.write(str(pair[1]), iter(partial(stream.read, 1 << 20), b""))
    folder.close()
    started = time.monotonic_ns()
    with start_command(profile, tuple(order["command"])) as command:  # type: ignore[arg-type]
        channel.send({"started_us": (time.monotonic_ns() - started) // 1000}, timeout=10)
        status = command.poll(timeout=120)
    assert status is not None
    channel.send({"code": status.code, "signal": status.signal}, timeout=10)


if __name__ == "__main__":
    main()
