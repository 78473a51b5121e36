"""What the first process inside does to its machine: mounts, reads the boot's log, turns the power off."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Final

from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.core.errors import MalformedError
from strongroom.enclave.adapters import syscalls
from strongroom.enclave.vm.layout import SEALED
from strongroom.enclave.vm.messages import MAX_LOG, Booted

_EVENT_LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
_COMMAND_LINE: Final = Path("/proc/cmdline")
_ROOT: Final = "strongroom.root="
_POWER_OFF: Final = 0x4321FEDC
_TOLD_PCRS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14)
_QUIET: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def mount_own() -> None:
    """Mount what the first process needs beside what the initial file system moved over: memory, and the boot's log."""
    for folder in ("/run", "/tmp", SEALED):  # noqa: S108 - nobody else is in this machine
        syscalls.mount("strongroom", folder, kind="tmpfs", flags=_QUIET, data="mode=0755,size=90%")
    syscalls.mount("strongroom", "/sys/kernel/security", kind="securityfs", flags=_QUIET)


def booted(device: TpmDevice) -> Booted:
    """Read what informs the launcher of this boot."""
    log = _EVENT_LOG.read_bytes() if _EVENT_LOG.is_file() else b""
    return Booted(
        pcrs={number: device.pcr_read(number).hex() for number in _TOLD_PCRS},
        event_log=log if len(log) <= MAX_LOG else b"",
        milliseconds=int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000),
    )


def root_hash() -> bytes:
    """Return the 32 bytes that the measured command line names: the kernel runs nothing that doesn't hash to it.

    :raises MalformedError: it doesn't name exactly one.
    """
    words = _COMMAND_LINE.read_text(encoding="ascii").split()
    named = [word.removeprefix(_ROOT) for word in words if word.startswith(_ROOT)]
    if len(named) != 1 or len(named[0]) != 64:
        raise MalformedError("the command line must name one root hash")
    return bytes.fromhex(named[0])


def power_off() -> None:
    """Turn the machine off. Its memory goes back to the host as it stands, and is the host's to give away."""
    ctypes.CDLL(None).reboot(_POWER_OFF)
