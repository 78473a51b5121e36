"""The attester's side (RFC 9334, section 3): where statements come from, and how they become one piece of evidence.

Devices are asked first: their statements' digest goes into what the platform's statement commits to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from strongroom.attestation.bindings import Slot
from strongroom.attestation.evidence import Evidence, EvidenceItem, devices_digest
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.transcript import Binding, device_nonce
from strongroom.core.digest import Digest
from strongroom.core.ids import PlatformId


class StatementSource(Protocol):
    """What makes a platform's statements: a kernel interface, or a security processor behind a device file."""

    @property
    def kind(self) -> EvidenceKind:
        """The kind of statement that this machine makes.

        :raises CollectionError: the machine has no such interface.
        """
        ...

    def statement(self, slots: Mapping[Slot, bytes]) -> EvidenceItem:
        """Have a statement made that commits to these bytes.

        :raises CollectionError: the interface refused, was taken away, or never stood still.
        :raises UsageError: the bytes don't fit the slots of this kind.
        """
        ...


class DeviceSource(Protocol):
    """What makes the statements of the devices in a machine."""

    def statements(self, nonce: bytes) -> tuple[EvidenceItem, ...]:
        """Have every device sign ``nonce`` (32 bytes), in a fixed order.

        :raises CollectionError: a device refused or its driver isn't there.
        """
        ...


class NoDevices:
    """A machine without devices that attest."""

    def statements(self, nonce: bytes) -> tuple[EvidenceItem, ...]:
        """Return nothing."""
        del nonce
        return ()


def collect(
    *,
    platform: PlatformId,
    source: StatementSource,
    devices: DeviceSource,
    nonce: bytes,
    recipient_key: bytes,
    bind: Callable[[Digest], Binding],
) -> Evidence:
    """Collect evidence for one challenge: devices first, then the platform, which commits to them.

    ``bind`` makes the binding once the digest over the devices' statements is known.

    :raises CollectionError: a part can't be had. :raises MalformedError: too many devices.
    """
    attached = devices.statements(device_nonce(nonce, Digest.of(recipient_key)))
    binding = bind(devices_digest(attached))
    main = source.statement(binding.item(source.kind).values)
    return Evidence(platform=platform, main=main, devices=attached, recipient_key=recipient_key)
