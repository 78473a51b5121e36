"""What a replayed event log lets one say about a boot: Secure Boot's state, and what was started.

A log's data is believed only where the extended digest is the hash of it, and its types never: they aren't extended,
so whoever hands in the log can write others (google/go-attestation, *Verifying TPM Boot Events and Untrusted
Metadata*). The profile hashes the data as it stands for separators, actions, ``EV_EFI_VARIABLE_DRIVER_CONFIG``,
``EV_EFI_VARIABLE_BOOT2``, ``EV_EFI_VARIABLE_AUTHORITY``, ``EV_S_CRTM_VERSION`` and the partition table; for code it
hashes the code, and there the digest is all that is known.
"""

from __future__ import annotations

import hmac
from enum import StrEnum
from typing import Final

from strongroom.attestation.tpm.event_log import MAX_EVENT, Event, EventLog
from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader
from strongroom.tpm import wire

SECURE_BOOT_REGISTER: Final = 7
GRUB_REGISTER: Final = 8
MAX_TEXT: Final = 1024
MAX_TEXTS: Final = 64
_SEPARATORS: Final = (bytes(4), b"\xff" * 4)
_DEBUG: Final = b"UEFI Debug Mode"
_GLOBAL: Final = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
"""EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it lies in memory."""
_SECURE_BOOT: Final = "SecureBoot".encode("utf-16-le")
_PREFIXES: Final = (b"", b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ", b"grub_cmd ", b"grub_kernel_cmdline ")
"""What GRUB writes before a text in the log, and leaves out of its digest; the last two are Fedora's older ones."""


class SecureBoot(StrEnum):
    """What the log proves of UEFI Secure Boot."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    """Off, or the firmware was in debug mode, which lets anything run."""
    UNKNOWN = "unknown"


_STATES: Final = {b"\1": SecureBoot.ENABLED, b"\0": SecureBoot.DISABLED}


def secure_boot(log: EventLog, bank: int) -> SecureBoot:
    """Say whether Secure Boot was on. The caller has checked that PCR 7 was quoted and replays.

    What firmware measured ends with a separator; what comes after it, an operating system could have extended. Until
    then every event's data must be what was hashed, or one of them could be the variable in disguise.
    """
    states: list[bytes] = []
    for event in log.extended(SECURE_BOOT_REGISTER):
        data = hashed_data(event, bank)
        # By its digest: a separator whose type and data were rewritten still ends the firmware's part.
        if any(hmac.compare_digest(event.digests.get(bank, b""), wire.hashed(bank, one)) for one in _SEPARATORS):
            return _STATES.get(states[0], SecureBoot.UNKNOWN) if len(states) == 1 else SecureBoot.UNKNOWN
        if data is None:
            return SecureBoot.UNKNOWN
        if data.rstrip(b"\0") == _DEBUG:
            return SecureBoot.DISABLED
        states += _secure_boot_values(data)
    return SecureBoot.UNKNOWN


def hashed_data(event: Event, bank: int) -> bytes | None:
    """Return an event's data if that is what was hashed; None where it is only somebody's word."""
    return event.data if hmac.compare_digest(event.digests.get(bank, b""), wire.hashed(bank, event.data)) else None


def loader_texts(log: EventLog, bank: int) -> tuple[str, ...]:
    """Return what a boot loader measured as text into PCR 8: GRUB's commands, and the kernel's command line.

    At most 64 texts of 1,024 characters each, without anything that a terminal would act on. The caller has checked
    that PCR 8 was quoted and replays.
    """
    found: list[str] = []
    for event in log.extended(GRUB_REGISTER):
        text = _hashed_text(event, bank)
        if text is not None and len(found) < MAX_TEXTS:
            found.append(_printable(text[:MAX_TEXT].decode("utf-8", "replace")))
    return tuple(found)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _hashed_text(event: Event, bank: int) -> bytes | None:
    if len(event.data) > MAX_TEXT + 64:
        return None
    for prefix in _PREFIXES:
        if event.data.startswith(prefix):
            text = event.data.removeprefix(prefix)
            for spelt in (text, text.removesuffix(b"\0")):
                if hmac.compare_digest(event.digests.get(bank, b""), wire.hashed(bank, spelt)):
                    return spelt.removesuffix(b"\0")
    return None


def _secure_boot_values(data: bytes) -> list[bytes]:
    """Return the variable's value if this is UEFI_VARIABLE_DATA of ``SecureBoot``, else nothing."""
    reader = Reader(data, "UEFI_VARIABLE_DATA", max_bytes=MAX_EVENT, order="little")
    try:
        vendor, characters, size = reader.take(16), reader.integer(8), reader.integer(8)
        name = reader.take(2 * characters)
        value = reader.take(size)
        reader.end()
    except MalformedError:
        return []  # something else that was measured into the same PCR
    return [value] if vendor == _GLOBAL and name == _SECURE_BOOT else []
