"""The agent's look at its own accelerators, before it asks for a key (measured code, beside the model).

A device's evidence alone can be copied: by a machine that has no such device, from one that has. The keeper compares
nonces and digests, and can't see what is plugged in. What can is the agent, whose code was measured: it asks the
devices that it will use, and judges their answers itself. The keeper then judges the same answers again.
"""

from __future__ import annotations

from typing import Final

from strongroom.attestation.appraisal import appraise_item
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.evidence import MAX_DEVICES, EvidenceItem, named_items
from strongroom.attestation.results import Status, SubmoduleResult
from strongroom.attestation.transcript import device_nonce
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, MalformedError

_NOT_GENUINE: Final = "device-not-genuine"


class OwnDeviceRefusedError(DeniedError):
    """A device of this very machine isn't what it should be. No key is asked for. ``reason`` says what failed."""

    code = "own-device-refused"


def require_genuine(
    devices: tuple[EvidenceItem, ...],
    *,
    expected: int,
    nonce: bytes,
    recipient_key: Digest,
    endorsements: Endorsements,
    policy: AppraisalPolicy,
    at: Instant,
) -> tuple[SubmoduleResult, ...]:
    """Return what came of each device's statement when every one is genuine, fresh, wanted, and another one's.

    :param devices: what the devices answered, in the order in which the evidence will list them.
    :param expected: how many devices the agent found on its bus: each of them must have spoken.
    :param nonce: the keeper's challenge; ``recipient_key`` the digest of the key that was made here.
    :raises OwnDeviceRefusedError: a device is missing, silent, doubled, forged, or not as wanted.
    :raises UsageError: a library that a kind needs isn't installed.
    """
    if len(devices) != expected or len(devices) > MAX_DEVICES:
        raise OwnDeviceRefusedError(
            f"{expected} devices are attached, and {len(devices)} of them answered", reason="device-silent"
        )
    if not all(item.kind.is_device for item in devices):
        raise MalformedError("only devices are looked at here")
    binding = ExpectedBinding({Slot.NONCE: device_nonce(nonce, recipient_key)})
    results = tuple(
        appraise_item(name, item, binding=binding, endorsements=endorsements, policy=policy, at=at)
        for name, item in named_items(devices)
    )
    for result in results:
        if result.status is not Status.WANTED:
            raise _refused(result)
    chips = [result.hardware_id for result in results]
    if not all(chips) or len(set(chips)) != len(chips):
        raise OwnDeviceRefusedError(
            "two devices answered as the same one, or one has no identity", reason="device-twice"
        )
    return results


def _refused(result: SubmoduleResult) -> OwnDeviceRefusedError:
    told = "\n".join(f"{one.name}: seen {one.seen or 'nothing'}, wanted {one.wanted}" for one in result.failed)
    names = ", ".join(f"`{claim.name}`" for claim in result.failed) or "no step was passed"
    reason = result.reason if result.status is not Status.ERROR else _NOT_GENUINE
    return OwnDeviceRefusedError(f"the device `{result.name}` isn't as wanted: {names}", reason=reason, remedy=told)
