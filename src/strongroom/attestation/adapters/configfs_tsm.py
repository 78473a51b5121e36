"""Statements of SEV-SNP and TDX guests through Linux's ``configfs-tsm`` (its ABI/testing/configfs-tsm-report).

One directory for each statement: write ``inblob``, read ``outblob`` and ``auxblob``, remove the directory. Whoever
else writes to the same directory raises ``generation``: what was read is taken only when it stood still, a few times
over at most. Linux 6.7 and later.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from strongroom.attestation.bindings import Slot
from strongroom.attestation.errors import CollectionError
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.sev_snp.body import write_body
from strongroom.core.errors import UsageError

REPORTS: Final = Path("/sys/kernel/config/tsm/report")
MAX_BLOB: Final = 64 * 1024
ATTEMPTS: Final = 4
REPORT_DATA_BYTES: Final = 64
_PROVIDERS: Final = {"sev_guest": EvidenceKind.SEV_SNP, "tdx_guest": EvidenceKind.TDX}
_WHY: Final = {
    errno.ENOENT: "there is none here (mount configfs; load sev-guest or tdx-guest; Linux 6.7 or later)",
    errno.ENXIO: "no confidential-computing guest driver is loaded",
    errno.EFBIG: "the statement's certificates don't fit into the kernel's limit",
    errno.EACCES: "this process may not use configfs-tsm",
    errno.EPERM: "this process may not use configfs-tsm",
}


class ReportTree(Protocol):
    """The four acts that ``configfs-tsm`` is made of."""

    def make(self, name: str) -> None:
        """Make a report's directory; its attributes appear with it. :raises OSError: as ``mkdir``."""
        ...

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Write an attribute as a whole. :raises OSError: as ``write``."""
        ...

    def read(self, name: str, attribute: str) -> bytes:
        """Read an attribute, at most ``MAX_BLOB`` bytes and one more. :raises OSError: as ``read``."""
        ...

    def remove(self, name: str) -> None:
        """Remove a report's directory. :raises OSError: as ``rmdir``."""
        ...


class KernelReports:
    """The kernel's own tree."""

    def __init__(self, folder: Path = REPORTS) -> None:
        self._folder = folder

    def make(self, name: str) -> None:
        """Make a report's directory."""
        (self._folder / name).mkdir()

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Write an attribute in one call: the kernel takes no second part."""
        descriptor = os.open(self._folder / name / attribute, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.EIO, "short write")
        finally:
            os.close(descriptor)

    def read(self, name: str, attribute: str) -> bytes:
        """Read an attribute."""
        with (self._folder / name / attribute).open("rb") as opened:
            return opened.read(MAX_BLOB + 1)

    def remove(self, name: str) -> None:
        """Remove a report's directory."""
        (self._folder / name).rmdir()


class TsmSource:
    """Statements of the guest that this process runs in.

    ``random_bytes`` names the report's directory: a name that others could guess could be made before ours.
    """

    def __init__(self, random_bytes: Callable[[int], bytes], tree: ReportTree | None = None) -> None:
        self._random = random_bytes
        self._tree = tree or KernelReports()

    @property
    def kind(self) -> EvidenceKind:
        """``sev-snp`` or ``tdx``, by the provider that the kernel names."""
        return self._collected(bytes(REPORT_DATA_BYTES)).kind

    def statement(self, slots: Mapping[Slot, bytes]) -> EvidenceItem:
        """Have a statement made over 64 bytes of report data."""
        report_data = slots.get(Slot.REPORT_DATA, b"")
        if set(slots) != {Slot.REPORT_DATA} or len(report_data) != REPORT_DATA_BYTES:
            raise UsageError(
                f"a guest's statement commits to {REPORT_DATA_BYTES} bytes of report data and nothing else"
            )
        return self._collected(report_data)

    def _collected(self, report_data: bytes) -> EvidenceItem:
        name = f"strongroom-{self._random(16).hex()}"
        try:
            self._tree.make(name)
            try:
                return self._settled(name, report_data)
            finally:
                self._tree.remove(name)
        except OSError as error:
            why = _WHY.get(error.errno or 0, os.strerror(error.errno or 0))
            raise CollectionError(f"configfs-tsm: {why}", remedy="run inside an SEV-SNP or TDX guest") from None

    def _settled(self, name: str, report_data: bytes) -> EvidenceItem:
        for _ in range(ATTEMPTS):
            self._tree.write(name, "inblob", report_data)
            before = self._bounded(name, "generation")
            try:
                provider = self._bounded(name, "provider").strip().decode("ascii", "replace")
                out, aux = self._bounded(name, "outblob"), self._optional(name, "auxblob")
            except OSError as error:
                # Somebody wrote in between, or the security processor was busy: once more, and not for ever.
                if error.errno not in {errno.EWOULDBLOCK, errno.EBUSY, errno.EINTR}:
                    raise
                continue
            if self._bounded(name, "generation") == before:
                return _item(provider, out, aux)
        raise CollectionError(
            f"configfs-tsm: no statement stood still in {ATTEMPTS} attempts",
            remedy="something else writes to the same report directory; find it",
        )

    def _optional(self, name: str, attribute: str) -> bytes:
        try:
            return self._bounded(name, attribute)
        except OSError as error:
            # Hosts that hand over no certificates have no attribute, or an empty one.
            if error.errno in {errno.ENOENT, errno.ENODATA}:
                return b""
            raise

    def _bounded(self, name: str, attribute: str) -> bytes:
        data = self._tree.read(name, attribute)
        if len(data) > MAX_BLOB:
            raise CollectionError(f"configfs-tsm: `{attribute}` is longer than {MAX_BLOB} bytes")
        return data


def _item(provider: str, out: bytes, aux: bytes) -> EvidenceItem:
    kind = _PROVIDERS.get(provider)
    if kind is None:
        raise CollectionError(f"configfs-tsm: no verifier exists for the provider `{provider[:32]}`")
    return EvidenceItem(kind, write_body(out, aux) if kind is EvidenceKind.SEV_SNP else out)
