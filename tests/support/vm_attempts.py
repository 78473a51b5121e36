"""Runs as the command inside a machine: uses the model, then tries to get out of the sandbox, and out of the machine.

Prints one JSON object: what it read, and attempt -> ``escaped`` or ``blocked``.
"""

# ruff: noqa: PTH208, PTH123 - attempts use the plainest call there is
from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from strongroom.attacks.inside import escape_attempts as sandbox
from support import escape_calls

MACHINE: dict[str, Callable[[], object]] = {}


def attempt(function: Callable[[], object]) -> Callable[[], object]:
    MACHINE[function.__name__] = function
    return function


@attempt
def find_a_network_interface() -> object:
    return [name for _, name in socket.if_nameindex()]


@attempt
def list_network_devices() -> object:
    return os.listdir("/sys/class/net")


@attempt
def open_the_channel() -> object:
    return [open(f"/dev/vport{a}p{b}", "rb") for a in range(4) for b in range(3)]


@attempt
def open_the_tpm() -> object:
    return [open(name, "rb+") for name in ("/dev/tpmrm0", "/dev/tpm0")]


@attempt
def read_the_root_disk() -> object:
    return open("/dev/vda", "rb").read(512)


@attempt
def read_the_sealed_disk() -> object:
    return open("/dev/vdb", "rb").read(512)


@attempt
def read_the_sealed_files() -> object:
    return os.listdir("/sealed")


@attempt
def read_kernel_memory() -> object:
    return [open(name, "rb").read(16) for name in ("/proc/kcore", "/dev/mem")]


@attempt
def read_kernel_log() -> object:
    return open("/dev/kmsg", "rb").read(16)


@attempt
def read_the_boot_log() -> object:
    return open("/sys/kernel/security/tpm0/binary_bios_measurements", "rb").read(16)


@attempt
def lift_lockdown() -> object:
    return open("/sys/kernel/security/lockdown", "w").write("none")


@attempt
def use_the_machines_ports() -> object:
    return sandbox.call(173, -1, 0x60, 1, 1)  # ioperm


@attempt
def turn_the_machine_off() -> object:
    return sandbox.call(169, 142, 0xFEE1DEAD, 672274793, 0x4321FEDC, 0)  # reboot


def main() -> None:
    sandbox.FACTS.update(json.loads(sys.argv[1]))
    results = {}
    attempts = {name: function for name, function in sandbox.ATTEMPTS.items() if name not in escape_calls.OPEN}
    for name, function in {**attempts, **MACHINE}.items():
        try:
            results[name] = ["escaped", repr(function())]
        except OSError as error:
            results[name] = ["blocked", errno.errorcode.get(error.errno or 0, "?")]
        except Exception as error:  # noqa: BLE001 - an attempt that breaks otherwise proves nothing, and must show
            results[name] = ["broken", f"{type(error).__name__}: {error}"]
    model = Path(os.environ["STRONGROOM_MODEL"])
    read = {path.name: path.read_text() for path in sorted(model.iterdir()) if path.suffix == ".json"}
    told = {"read": read, "machine": sorted(MACHINE), "results": results, "uid": os.getuid()}
    print(json.dumps(told), flush=True)  # noqa: T201 - its only output


if __name__ == "__main__":
    main()
