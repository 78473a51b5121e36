"""Is a report of an NVIDIA GPU or NVSwitch genuine? Six steps; the first that fails names itself.

1. the report's signature over its raw bytes, by the attestation key
2. that key's chain to NVIDIA's device root, with revocation lists and OCSP answers
3. a device of this kind, by what NVIDIA's provisioner certified
4. firmware in the report = firmware that the attestation certificate was made for (TCG DICE)
5. the nonce in the signed request = our binding (else replayed)
6. reference manifests, where the collateral has them: signed by NVIDIA, of these versions, and compared

The attestation certificate itself can't be revoked: the device makes it at each start and answers to nobody. Every
certificate above it can.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm

from strongroom.attestation.bindings import ItemBinding, Slot
from strongroom.attestation.chain import Path, walk
from strongroom.attestation.claims import Aspect, Claim, one_of, said
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    ManifestRefusedError,
    NotGenuineError,
    OtherFirmwareError,
    WrongStructureError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.chains import completed
from strongroom.attestation.nvidia.dice import Architecture, DeviceIdentity, certified_fwid, device_identity
from strongroom.attestation.nvidia.manifest import (
    VIDEO_DECODER_INDEX,
    Component,
    Manifest,
    ManifestMatch,
    compare,
    read_manifest,
)
from strongroom.attestation.nvidia.names import driver_manifest, firmware_manifest
from strongroom.attestation.nvidia.opaque import PASSTHROUGH, Mode, OpaqueData
from strongroom.attestation.nvidia.statement import MAX_STATEMENT, DeviceStatement, Proven
from strongroom.attestation.ocsp import OcspAnswers
from strongroom.attestation.policies.nvidia import (
    Demand,
    ManifestRules,
    NvidiaGpuPolicy,
    NvidiaSwitchPolicy,
    at_or_above,
)
from strongroom.attestation.trust_anchors import Vendor, load_certificate
from strongroom.attestation.verifier import Genuine
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError, UsageError

AnyPolicy = TypeVar("AnyPolicy", NvidiaGpuPolicy, NvidiaSwitchPolicy)


@dataclass(frozen=True, slots=True)
class _Named:
    """A manifest that is looked for, and what was found."""

    component: Component
    name: str
    version: str
    manifest: Manifest | None


class _NvidiaVerifier(ABC, Generic[AnyPolicy]):
    """What both kinds of device have in common."""

    kind: ClassVar[EvidenceKind]
    max_bytes = MAX_STATEMENT
    slots = frozenset({Slot.NONCE})
    reference_names: frozenset[str] = frozenset()
    optional_names: frozenset[str]
    policy: type[AnyPolicy]

    def parse(self, body: bytes) -> DeviceStatement:
        """Read a body; see :meth:`DeviceStatement.parse`."""
        return DeviceStatement.parse(body)

    def genuine(
        self, statement: DeviceStatement, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[DeviceStatement]:
        """Take the six steps.

        :raises NotGenuineError: a step fails; each has its own subclass or code.
        :raises MalformedError: a certificate, extension or manifest can't be read.
        :raises MissingExtraError: there is a manifest to read, and the libraries for it aren't installed.
        """
        report, opaque = statement.report, statement.opaque
        chain = completed(report, statement.certificates, endorsements.collateral.certificates)
        # 1. Over the raw bytes, before anything in them is used.
        report.verify(_key(chain[0]))
        # 2.
        answers = OcspAnswers.load(endorsements.collateral.data(CollateralKind.OCSP_ANSWER))
        path = walk(chain, endorsements.anchors.of(Vendor.NVIDIA_DEVICE), at, lists=endorsements.lists)
        path = answers.of_path(path, at, lists=endorsements.lists)
        # 3.
        identity = self._identity(path)
        # 4.
        if opaque.fwid:
            _require_firmware(opaque.fwid, path, identity)
        # 5.
        bound = binding.bound({Slot.NONCE: report.nonce})
        # 6.
        named = self._manifests(statement, identity, endorsements, answers, at)
        proven = self._proven(statement, identity, _matches(named, statement, identity))
        found: list[Manifest] = [one.manifest for one in named if one.manifest is not None]
        isolation = path.anchor.isolation.weaker(IsolationClass.CVM_GPU)
        for manifest in found:
            isolation = isolation.weaker(manifest.isolation)
        return Genuine(
            kind=self.kind,
            bound=bound,
            statement=replace(statement, proven=proven),
            measurements=self._measurements(proven),
            hardware_id=identity.serial,
            isolation=isolation,
            endorsed_until=min([path.endorsed_until, *(one.endorsed_until for one in found)]),
            revocation_checked=all(path.looked_up[1:]) and all(one.revocation_checked for one in found),
            details=_details(statement, proven),
        )

    def _identity(self, path: Path) -> DeviceIdentity:
        identity = device_identity(path.leaf, path.certificates[1])
        if identity.architecture.kind is not self.kind:
            raise WrongStructureError(
                "the report is of another kind of device", seen=identity.architecture.kind, wanted=self.kind
            )
        return identity

    @abstractmethod
    def _wanted_manifests(self, opaque: OpaqueData, architecture: Architecture) -> tuple[_Named, ...]:
        """Name the manifests that this device's measurements are compared with."""

    @abstractmethod
    def _proven(
        self, statement: DeviceStatement, identity: DeviceIdentity, manifests: tuple[ManifestMatch, ...]
    ) -> Proven:
        """Return what the report says, now that it is believed."""

    def _manifests(
        self,
        statement: DeviceStatement,
        identity: DeviceIdentity,
        endorsements: Endorsements,
        answers: OcspAnswers,
        at: Instant,
    ) -> tuple[_Named, ...]:
        return tuple(
            replace(one, manifest=_first_genuine(one, endorsements, answers, at))
            for one in self._wanted_manifests(statement.opaque, identity.architecture)
        )

    def _measurements(self, proven: Proven) -> Mapping[str, str]:
        told = {"driver_version": proven.driver_version, "vbios_version": proven.firmware_version}
        return {name: told[name] for name in sorted(self.optional_names) if told[name]}


class NvidiaGpuVerifier(_NvidiaVerifier[NvidiaGpuPolicy]):
    """GPUs: Hopper and Blackwell."""

    kind = EvidenceKind.NVIDIA_GPU
    optional_names = frozenset({"driver_version", "vbios_version"})
    policy = NvidiaGpuPolicy

    def judge(self, proven: Genuine[DeviceStatement], policy: NvidiaGpuPolicy) -> tuple[Claim, ...]:
        """Compare with the policy."""
        told = _proven(proven)
        return (
            one_of("architecture", Aspect.HARDWARE, told.identity.architecture, policy.architectures),
            _at_or_above("driver", told.driver_version, policy.driver_floors),
            _at_or_above("vbios", told.firmware_version, policy.vbios_floors),
            _mode(told.mode, policy.modes),
            policy.chips.claim("chip", Aspect.INSTANCE_IDENTITY, proven.hardware_id.hex()),
            *_manifest_claims(proven, policy.manifests),
        )

    def _wanted_manifests(self, opaque: OpaqueData, architecture: Architecture) -> tuple[_Named, ...]:
        return (
            _Named(Component.DRIVER, driver_manifest(architecture, opaque), opaque.driver_version, None),
            _Named(Component.VBIOS, firmware_manifest(architecture, opaque), opaque.gpu_vbios_version, None),
        )

    def _proven(
        self, statement: DeviceStatement, identity: DeviceIdentity, manifests: tuple[ManifestMatch, ...]
    ) -> Proven:
        opaque = statement.opaque
        return Proven(
            identity=identity,
            firmware_version=opaque.gpu_vbios_version,
            driver_version=opaque.driver_version,
            mode=opaque.mode,
            locked=False,
            neighbours=opaque.switches_of_gpu,
            own_word=b"",
            manifests=manifests,
        )


class NvidiaSwitchVerifier(_NvidiaVerifier[NvidiaSwitchPolicy]):
    """NVSwitches of Hopper machines."""

    kind = EvidenceKind.NVIDIA_SWITCH
    optional_names = frozenset({"vbios_version"})
    policy = NvidiaSwitchPolicy

    def judge(self, proven: Genuine[DeviceStatement], policy: NvidiaSwitchPolicy) -> tuple[Claim, ...]:
        """Compare with the policy."""
        told = _proven(proven)
        return (
            one_of("architecture", Aspect.HARDWARE, told.identity.architecture, policy.architectures),
            _at_or_above("bios", told.firmware_version, policy.bios_floors),
            Claim(
                "locked",
                Aspect.CONFIGURATION,
                said(told.locked),
                "yes" if policy.must_be_locked else "any",
                ok=told.locked or not policy.must_be_locked,
            ),
            policy.chips.claim("chip", Aspect.INSTANCE_IDENTITY, proven.hardware_id.hex()),
            *_manifest_claims(proven, policy.manifests),
        )

    def _wanted_manifests(self, opaque: OpaqueData, architecture: Architecture) -> tuple[_Named, ...]:
        return (_Named(Component.VBIOS, firmware_manifest(architecture, opaque), opaque.switch_bios_version, None),)

    def _proven(
        self, statement: DeviceStatement, identity: DeviceIdentity, manifests: tuple[ManifestMatch, ...]
    ) -> Proven:
        opaque = statement.opaque
        return Proven(
            identity=identity,
            firmware_version=opaque.switch_bios_version,
            driver_version="",
            mode=Mode.UNSTATED,
            locked=opaque.switch_is_locked,
            neighbours=opaque.gpus_of_switch,
            own_word=opaque.own_pdi_of_switch,
            manifests=manifests,
        )


def _key(der: bytes) -> object:
    try:
        return load_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("the attestation certificate's key is of a kind that isn't read") from None


def _require_firmware(stated: bytes, path: Path, identity: DeviceIdentity) -> None:
    certified = certified_fwid(path.leaf, path.certificates[1], identity.architecture)
    if stated != certified:
        # The key of other firmware, older and broken maybe, must not speak for this one.
        raise OtherFirmwareError(
            "the report states another firmware than its key was certified for",
            seen=stated.hex(),
            wanted=certified.hex(),
        )


def _first_genuine(one: _Named, endorsements: Endorsements, answers: OcspAnswers, at: Instant) -> Manifest | None:
    """Return the newest manifest of this name that holds; where none of several holds, say why the newest fails."""
    anchors, lists = endorsements.anchors.of(Vendor.NVIDIA_RIM), endorsements.lists
    refused: NotGenuineError | MalformedError | None = None
    for data in endorsements.collateral.named(CollateralKind.NVIDIA_RIM, one.name):
        try:
            manifest = read_manifest(data, anchors, at, lists=lists, answers=answers)
            if manifest.version.upper() != one.version.upper():
                raise ManifestRefusedError(
                    "a reference manifest is of another version than it is named for",
                    seen=manifest.version,
                    wanted=one.version,
                )
        except (NotGenuineError, MalformedError) as error:
            refused = refused or error
        else:
            return manifest
    if refused is not None:
        raise refused
    return None


def _matches(
    named: tuple[_Named, ...], statement: DeviceStatement, identity: DeviceIdentity
) -> tuple[ManifestMatch, ...]:
    is_gpu = identity.architecture.kind is EvidenceKind.NVIDIA_GPU
    skipped = frozenset({VIDEO_DECODER_INDEX}) if is_gpu and statement.opaque.video_decoder_is_off else frozenset()
    seen: set[int] = set()
    result = []
    for one in named:
        if one.manifest is None:
            result.append(ManifestMatch(component=one.component, name=one.name, found=False))
            continue
        # Two manifests for one measurement would let an attacker choose the one that fits.
        if seen & set(one.manifest.golden):
            raise ManifestRefusedError("two reference manifests speak of the same measurement")
        seen.update(one.manifest.golden)
        result.append(
            ManifestMatch(
                component=one.component,
                name=one.name,
                found=True,
                signer_current=one.manifest.signer_current,
                compared=len(set(one.manifest.golden) - skipped),
                mismatches=compare(one.manifest, statement.report.measurements, skipped=skipped),
                unread=one.manifest.unread,
            )
        )
    return tuple(result)


def _details(statement: DeviceStatement, proven: Proven) -> Mapping[str, str]:
    told = {
        "model": proven.identity.model,
        "pdi": proven.identity.pdi.hex(),
        "ueid": proven.identity.ueid,
        "driver": proven.driver_version,
        "firmware": proven.firmware_version,
        "fwid": statement.opaque.fwid.hex() or "not stated",
        **{f"rim.{one.component}": str(one) for one in proven.manifests},
    }
    return {name: text for name, text in told.items() if text}


def _proven(proven: Genuine[DeviceStatement]) -> Proven:
    if proven.statement.proven is None:
        raise UsageError("a device is judged once its report is genuine")
    return proven.statement.proven


def _at_or_above(name: str, version: str, floors: tuple[str, ...] | None) -> Claim:
    wanted = "any" if floors is None else "at least " + " or ".join(floors) if floors else "nothing"
    return Claim(
        name, Aspect.EXECUTABLES, version or "nothing", wanted, ok=floors is None or at_or_above(version, floors)
    )


def _mode(seen: Mode, allowed: tuple[Mode, ...]) -> Claim:
    claim = one_of("mode", Aspect.CONFIGURATION, seen, allowed)
    if not claim.ok or seen not in PASSTHROUGH or PASSTHROUGH.issubset(allowed):
        return claim
    return replace(claim, wanted=f"{claim.wanted}; `spt` and `mpt` only together", ok=False)


def _manifest_claims(proven: Genuine[DeviceStatement], rules: ManifestRules) -> tuple[Claim, ...]:
    manifests = _proven(proven).manifests
    required = rules.rim is Demand.REQUIRED
    claims = []
    for one in manifests:
        name = f"rim.{one.component}"
        ok = one.matches or not (one.found or required)
        claims.append(Claim(name, Aspect.EXECUTABLES, str(one), "all measurements as NVIDIA published them", ok=ok))
        if one.found:
            claims.append(_signer(name, rules, current=one.signer_current))
    # NVIDIA states neither debug nor secure boot in a report: both are shown by measurements that match, and only so.
    shown = all(one.matches for one in manifests)
    doubted = required or any(one.found and not one.matches for one in manifests)
    seen = "no" if shown else "not shown"
    return (
        *claims,
        Claim("debug", Aspect.RUNTIME_OPAQUE, seen, "no", ok=shown or not doubted),
        rules.revocation.claim(proven.revocation_checked),
    )


def _signer(name: str, rules: ManifestRules, *, current: bool) -> Claim:
    wanted = "yes" if rules.rim_signer_must_be_current else "any"
    return Claim(
        f"{name}.signer-current",
        Aspect.SOURCED_DATA,
        said(current),
        wanted,
        ok=current or not rules.rim_signer_must_be_current,
    )
