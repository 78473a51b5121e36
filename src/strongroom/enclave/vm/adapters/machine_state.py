"""What the first process inside does to its machine: mounts, reads the boot's log, turns the power off."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Final

from strongroom.attestation.adapters.configfs_tsm import TsmSource
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.errors import CollectionError
from strongroom.core.errors import MalformedError
from strongroom.enclave.vm.definition import GENESIS_WORD, ROOT_WORD
from strongroom.enclave.vm.layout import SEALED
from strongroom.enclave.vm.messages import MAX_LOG, Booted
from strongroom.walls.adapters import syscalls

_EVENT_LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
_CONFIG: Final = Path("/sys/kernel/config")
_COMMAND_LINE: Final = Path("/proc/cmdline")
_POWER_OFF: Final = 0x4321FEDC
_TOLD_PCRS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14)
_QUIET: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def mount_own() -> None:
    """Mount what the first process needs beside what the initial file system moved over: memory, and the boot's log."""
    for folder in ("/run", "/tmp", SEALED):  # noqa: S108 - nobody else is in this machine
        syscalls.mount("strongroom", folder, kind="tmpfs", flags=_QUIET, data="mode=0755,size=90%")
    syscalls.mount("strongroom", "/sys/kernel/security", kind="securityfs", flags=_QUIET)
    if _CONFIG.is_dir():
        syscalls.mount("strongroom", str(_CONFIG), kind="configfs", flags=_QUIET)


def booted(device: TpmDevice | None) -> Booted:
    """Read what informs the launcher of this boot; there are no registers to read where there is no TPM."""
    log = _EVENT_LOG.read_bytes() if _EVENT_LOG.is_file() else b""
    return Booted(
        pcrs={number: device.pcr_read(number).hex() for number in _TOLD_PCRS} if device else {},
        event_log=log if len(log) <= MAX_LOG else b"",
        milliseconds=int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000),
    )


def root_hash() -> bytes:
    """Return the 32 bytes that the measured command line names: the kernel runs nothing that doesn't hash to it.

    :raises MalformedError: it doesn't name exactly one.
    """
    named = _named(ROOT_WORD)
    if named is None:
        raise MalformedError("the command line must name one root hash")
    return named


def pinned_genesis() -> bytes | None:
    """Return the 32 bytes of the one deployment that the measured command line names; None where it names none.

    :raises MalformedError: it names several.
    """
    return _named(GENESIS_WORD)


def chip() -> TsmSource | None:
    """Return what asks the chip that keeps this machine's memory; None on a machine without one."""
    source = TsmSource(os.urandom)
    try:
        _ = source.kind
    except CollectionError:
        return None
    return source


def _named(word: str) -> bytes | None:
    words = _COMMAND_LINE.read_text(encoding="ascii").split()
    named = [one.removeprefix(word) for one in words if one.startswith(word)]
    if not named:
        return None
    if len(named) != 1 or len(named[0]) != 64:
        raise MalformedError(f"the command line must name one `{word.removesuffix('=')}` in 64 hex digits")
    return bytes.fromhex(named[0])


def power_off() -> None:
    """Turn the machine off. Its memory goes back to the host as it stands, and is the host's to give away."""
    ctypes.CDLL(None).reboot(_POWER_OFF)
