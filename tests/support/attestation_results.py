"""Attestation results made by hand: wanted ones, and what can be wrong with them."""

from __future__ import annotations

from dataclasses import replace

from strongroom.attestation.claims import Aspect, Claim
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.results import AttestationResult, Status, SubmoduleResult
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, PlatformId

AT = 1_795_000_000
IMAGE = ImageId("embedder")
PLATFORM = PlatformId("sev-snp-" + "a" * 64)


def claim(aspect: Aspect, *, ok: bool = True, name: str = "x") -> Claim:
    """Make a claim."""
    return Claim(name, aspect, "seen", "wanted", ok)


GENUINE = claim(Aspect.INSTANCE_IDENTITY, name="genuine")
DEBUG_OFF = claim(Aspect.HARDWARE, name="debug")
OPAQUE = claim(Aspect.RUNTIME_OPAQUE, name="smt")
MEASURED = claim(Aspect.EXECUTABLES, name="measurement")


def statement(name: str = "cpu0", kind: EvidenceKind = EvidenceKind.SEV_SNP) -> SubmoduleResult:
    """Return a wanted statement's result."""
    return SubmoduleResult(
        name=name,
        kind=kind,
        evidence=Digest.of(name.encode()),
        status=Status.WANTED,
        reason="",
        claims=(GENUINE, DEBUG_OFF, OPAQUE),
        fresh=True,
        isolation=IsolationClass.CVM,
        hardware_id=b"chip",
        measurements={"measurement": "ab" * 48},
        endorsed_until=AT + 86400,
    )


def wanted(*more: SubmoduleResult) -> AttestationResult:
    """Return a wanted platform's result."""
    return AttestationResult(
        platform=PLATFORM,
        evidence=Digest.of(b"evidence"),
        at=AT,
        status=Status.WANTED,
        reason="",
        image=IMAGE,
        isolation=IsolationClass.CVM,
        reference_values=Digest.of(b"values"),
        policy=Digest.of(b"policy"),
        recipient_key=Digest.of(b"key"),
        nonce=bytes(range(32)),
        endorsed_until=AT + 86400,
        claims=(MEASURED,),
        submodules=(statement(), *more),
    )


def refused() -> AttestationResult:
    """Return the result of a platform whose measurement isn't the image's."""
    return replace(
        wanted(),
        status=Status.GENUINE,
        reason="unwanted-measurement",
        image=None,
        isolation=IsolationClass.NONE,
        claims=(claim(Aspect.EXECUTABLES, ok=False, name="measurement"),),
    )


def simulated() -> AttestationResult:
    """Return the result of a wanted platform whose root was made for tests."""
    one = replace(statement(), isolation=IsolationClass.VM_SIMULATED)
    return replace(wanted(), isolation=IsolationClass.VM_SIMULATED, submodules=(one,))
