"""An agent for tests: copies a model's files in, closes the folder, and starts the engine with the metered channel."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from strongroom.enclave.adapters.channel import Channel, inherited_descriptor
from strongroom.enclave.adapters.command import start_command
from strongroom.enclave.adapters.model_folder import ModelFolder
from strongroom.enclave.agent.ending import told_ending
from strongroom.enclave.agent.wiring import metered_channel
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.sealing.errors import CanaryMismatchError


def main() -> None:
    channel = Channel.inherited()
    profile = SandboxProfile.from_bytes(os.pread(inherited_descriptor("profile"), 1 << 20, 0))
    order = channel.receive(timeout=30)
    assert isinstance(order, dict)
    folder = ModelFolder.of(profile)
    for name in order["files"]:  # type: ignore[union-attr]
        with (Path(str(order["folder"])) / str(name)).open("rb") as stream:
            folder.write(str(name), iter(partial(stream.read, 1 << 20), b""))
    folder.close()
    with start_command(profile, tuple(order["command"]), meter=metered_channel(profile)) as command:  # type: ignore[arg-type]
        channel.send({"started": True}, timeout=60)
        while (status := command.poll(timeout=60)) is None:
            pass
    try:
        status = told_ending(profile, status)
    except CanaryMismatchError as error:
        channel.send({"refused": error.reason}, timeout=60)
    else:
        channel.send({"code": status.code, "signal": status.signal}, timeout=60)


main()
