"""``strongroom attestation verify``: whether evidence in a file is genuine and wanted. No deployment, no network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

import click

from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, RecordedBinding, Slot
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.format import MAX_BUNDLE
from strongroom.attestation.bundle.reading import ReadItem
from strongroom.attestation.collateral import Collateral, CollateralKind
from strongroom.attestation.containers.contained import MAX_FILE, Contained
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.isolation import IsolationClass, caps
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import MAX_RECORD, PlatformRecord
from strongroom.attestation.recorded import (
    FRESH_CLAIM,
    Recorded,
    appraise_recorded,
    isolation_of,
    manifests_wanted,
    read_file,
)
from strongroom.attestation.reference_values import MAX_REFERENCE_VALUES, ReferenceValues
from strongroom.attestation.registry import VERIFIERS
from strongroom.attestation.results import Status
from strongroom.attestation.trust_anchors import MAX_CERTIFICATE, TrustAnchor, Vendor, vendor_anchors
from strongroom.cli import files
from strongroom.cli.attestation_policy import STRICTEST, read_policy
from strongroom.cli.attestation_words import class_line, line, refused_class_line, statement_lines
from strongroom.cli.output import end, show
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import Instant, SystemClock, format_instant, parse_instant
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ExitCode, MalformedError, UsageError
from strongroom.core.ids import image_id

AT_DOCUMENT: Final = "document"
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_APART: Final = "each is judged by itself; the policy's rules for devices together (`devices`) aren't asked here"
_LOUD: Final = "SIMULATED ROOTS ARE BELIEVED: what they vouch for is nobody's hardware"


class Verdict(StrEnum):
    """How it ended."""

    WANTED = "wanted"
    UNBOUND = "genuine, not bound to a challenge"
    REFUSED = "refused"

    @property
    def exit_code(self) -> ExitCode:
        """0, 4 (neither refused nor allowed) or 3."""
        return {Verdict.WANTED: ExitCode.OK, Verdict.UNBOUND: ExitCode.PENDING}.get(self, ExitCode.DENIED)


_WHY: Final = {
    Verdict.WANTED: "genuine, made for this challenge, and as the policy wants it",
    Verdict.UNBOUND: "as the policy wants it, but made for whom, and when, nobody checked",
    Verdict.REFUSED: "what failed stands above, with what would have passed",
}


@click.command("verify")
@click.argument("file", type=_FILE)
@click.option("--policy", "policy_name", help=f"An appraisal policy (a file), or `{STRICTEST}`.")
@click.option("--nonce", help="Hex: the challenge (Nitro's nonce, the 32 bytes of an NVIDIA device).")
@click.option("--report-data", help="Hex: 64 bytes (SEV-SNP, TDX, SGX).")
@click.option("--qualifying-data", help="Hex: what a TPM or a vTPM was asked to sign along.")
@click.option("--user-data", help="Hex: Nitro's user data.")
@click.option(
    "--unbound", is_flag=True, help="The challenge isn't known: judge all the rest, and never call it wanted."
)
@click.option(
    "--at",
    "at_text",
    help=f"Judge as of this time, 2026-01-15T00:00:00Z; `{AT_DOCUMENT}` is Nitro's own. Default: now.",
)
@click.option(
    "--with",
    "with_files",
    type=_FILE,
    multiple=True,
    help="A collateral bundle, or a maker's file: certificates, revocation lists, Intel's JSON, NVIDIA's RIMs, OCSP.",
)
@click.option(
    "--reference", type=_FILE, help="Reference values: images, further roots and, without --policy, the policy."
)
@click.option("--image", help="The image that it must be; without, any in the reference values.")
@click.option("--platform", type=_FILE, help="The enrolled platform's record: what a TPM is known by.")
@click.option(
    "--anchor",
    "anchors",
    type=(click.Choice([vendor.value for vendor in Vendor]), _FILE),
    multiple=True,
    metavar="VENDOR CERTIFICATE",
    help="Believe a root made for tests. What it vouches for is `vm-simulated` and said to be, loudly.",
)
@files.json_option
def verify(
    file: Path,
    *,
    policy_name: str | None,
    nonce: str | None,
    report_data: str | None,
    qualifying_data: str | None,
    user_data: str | None,
    at_text: str | None,
    with_files: tuple[Path, ...],
    reference: Path | None,
    image: str | None,
    platform: Path | None,
    anchors: tuple[tuple[str, Path], ...],
    unbound: bool,
    as_json: bool,
) -> None:
    """Judge the evidence in FILE: genuine first, then wanted. Nothing is asked of a deployment or of the network.

    FILE is in the form that a maker's tool, or an agent, wrote. Ends with 0 when it is wanted, 4 when it is genuine and
    all that the policy asks but wasn't compared with a challenge, 3 when it is refused.
    """
    binding = _binding(
        {
            Slot.NONCE: nonce,
            Slot.REPORT_DATA: report_data,
            Slot.QUALIFYING_DATA: qualifying_data,
            Slot.USER_DATA: user_data,
        },
        unbound=unbound,
    )
    contained = read_file(files.read_file(file, most=MAX_FILE))
    at = _instant(at_text, contained)
    values = _reference(reference, at) if reference is not None else None
    if image is not None and values is None:
        raise UsageError("`--image` needs the reference values that list it: --reference")
    policy = _policy(policy_name, contained, values)
    endorsements = Endorsements(
        anchors=vendor_anchors().joined((*(values.anchors if values else ()), *(_anchor(*one) for one in anchors))),
        collateral=_collateral(with_files, contained),
        platform=_platform(platform, contained) if platform is not None else None,
    )
    results = appraise_recorded(
        contained,
        policy=policy,
        endorsements=endorsements,
        binding=binding,
        at=at,
        images=values.images if values else None,
        image=image_id(image) if image is not None else None,
    )
    _tell(
        contained,
        results,
        policy,
        at,
        believed=[path for path in (reference, platform) if path is not None],
        simulated=any(one.simulated for one in endorsements.anchors.anchors),
        as_json=as_json,
    )


def _binding(told: dict[Slot, str | None], *, unbound: bool) -> ItemBinding:
    values = {slot: _hex(slot, text) for slot, text in told.items() if text is not None}
    if bool(values) == unbound:
        # A verifier that took "no challenge" for "any challenge" would accept every old piece of evidence.
        raise UsageError(
            "evidence is judged by the challenge that it was made for, or, and then it is never wanted, without one",
            reason="binding-missing",
            remedy="give one of --nonce, --report-data, --qualifying-data, --user-data; or --unbound",
        )
    return RecordedBinding() if unbound else ExpectedBinding(values)


def _hex(slot: Slot, text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if not value or len(text) != 2 * len(value):
        raise UsageError(f"`--{slot}` must be hex, two digits for each byte", reason="binding-malformed")
    if slot is Slot.REPORT_DATA and len(value) != 64:
        # Never padded to fit: whoever made the evidence chose what stands in the rest.
        raise UsageError(f"report data has 64 bytes, not {len(value)}: write the zeros too", reason="binding-malformed")
    return value


def _instant(text: str | None, contained: Contained) -> Instant:
    if text is None:
        return SystemClock().now()
    if text != AT_DOCUMENT:
        try:
            return parse_instant(text)
        except MalformedError as error:
            raise UsageError(f"`--at`: {error.message}") from None
    if [item.kind for item in contained.items] != [EvidenceKind.NITRO]:
        raise UsageError(f"`--at {AT_DOCUMENT}` is for a Nitro document, which states its own time")
    made: Instant = VERIFIERS[EvidenceKind.NITRO].parse(contained.items[0].body).document.made
    return made


def _reference(path: Path, at: Instant) -> ReferenceValues:
    values = ReferenceValues.parse(_payload(files.read_file(path, most=2 * MAX_REFERENCE_VALUES)))
    if at >= values.not_after:
        raise UsageError(
            f"the reference values in `{path.name}` ended {format_instant(values.not_after)}",
            reason="reference-values-ended",
            remedy="take those that are in force, or judge as of a time when these were: --at",
        )
    return values


def _platform(path: Path, contained: Contained) -> PlatformRecord:
    record = PlatformRecord.parse(_payload(files.read_file(path, most=4 * MAX_RECORD)))
    kinds = {item.kind for item in contained.items if not item.kind.is_device}
    if {record.kind, *kinds} != {EvidenceKind.TPM2}:
        # Only a TPM's verifier asks for it. Passed over in silence, it would look as if it had been compared.
        raise UsageError(
            "`--platform` is what a TPM is known by, and isn't compared with other evidence",
            reason="platform-not-compared",
            remedy="list the chip in the policy instead",
        )
    return record


def _payload(data: bytes) -> bytes:
    # Who signed it is the caller's to know: this file was chosen by whoever runs the command.
    value = parse(data)
    return Envelope.parse(data).payload if isinstance(value, dict) and "payloadType" in value else data


def _policy(named: str | None, contained: Contained, values: ReferenceValues | None) -> AppraisalPolicy:
    if named is not None:
        return read_policy(named, tuple(dict.fromkeys(item.kind for item in contained.items)))
    if values is not None:
        return values.appraisal
    raise UsageError(
        "genuine isn't wanted: name what you want",
        reason="policy-missing",
        remedy=f"--policy FILE (strongroom attestation policy prints one to start from), or --policy {STRICTEST}",
    )


def _collateral(paths: Sequence[Path], contained: Contained) -> Collateral:
    read = [one for path in paths for one in _read_along(path, contained)]
    along = [one for der in contained.certificates for one in read_collateral_file(der)]
    return Collateral(tuple(one.item for one in (*read, *along)))


def _read_along(path: Path, contained: Contained) -> tuple[ReadItem, ...]:
    data = files.read_file(path, most=MAX_BUNDLE)
    try:
        return read_collateral_file(data, file_name=path.name)
    except MalformedError:
        # A manifest states no id. Where its file's name is none either, it may be one that the evidence asks for.
        for name in manifests_wanted(contained) if data.lstrip()[:1] == b"<" else ():
            with suppress(MalformedError):
                return read_collateral_file(data, file_name=name)
        raise


def _anchor(vendor: str, path: Path) -> TrustAnchor:
    found = read_collateral_file(files.read_file(path, most=4 * MAX_CERTIFICATE))
    if [one.item.kind for one in found] != [CollateralKind.CERTIFICATE]:
        raise UsageError(f"`{path.name}` must hold one certificate")
    return TrustAnchor(Vendor(vendor), found[0].item.data, IsolationClass.VM_SIMULATED)


def _verdict(results: Sequence[Recorded]) -> Verdict:
    failed = {claim.name for one in results for claim in one.result.failed}
    if all(one.result.status is Status.WANTED for one in results):
        return Verdict.WANTED
    if all(one.result.status is Status.GENUINE for one in results) and failed == {FRESH_CLAIM}:
        return Verdict.UNBOUND
    return Verdict.REFUSED


def _tell(
    contained: Contained,
    results: Sequence[Recorded],
    policy: AppraisalPolicy,
    at: Instant,
    *,
    believed: Sequence[Path],
    simulated: bool,
    as_json: bool,
) -> None:
    verdict = _verdict(results)
    refused = verdict is Verdict.REFUSED
    isolation = isolation_of([one.result for one in results])
    data: dict[str, Json] = {
        "v": 1,
        "verdict": verdict.name.lower(),
        "form": contained.form,
        "at": format_instant(at),
        "policy": str(policy.digest),
        "believed": [click.format_filename(path, shorten=True) for path in believed],
        "simulated_roots": simulated,
        "isolation": isolation.value,
        "supports": None if refused else caps(isolation).value,
        "statements": [_statement_json(one) for one in results],
    }
    lines = [line("evidence", f"{contained.form}, {len(results)} statement{'s' * (len(results) > 1)}")]
    lines += [line("as of", format_instant(at)), line("policy", str(policy.digest))]
    if believed:
        lines += [line("believed", f"{', '.join(path.name for path in believed)}: who signed it wasn't checked")]
    if any(one.result.kind.is_device for one in results):
        lines += [line("devices", _APART)]
    lines += [line("WARNING", _LOUD)] * simulated
    for one in results:
        lines += ["", *statement_lines(one)]
    lines += [
        "",
        refused_class_line(isolation) if refused else class_line(isolation),
        *[line("WARNING", _LOUD)] * simulated,
    ]
    lines += [line("verdict", f"{verdict}: {_WHY[verdict]}")]
    show(data, lines, as_json=as_json)
    if verdict is not Verdict.WANTED:
        end(verdict.exit_code)


def _statement_json(one: Recorded) -> Json:
    told = one.result.to_json()
    committed: dict[str, Json] = {slot.value: value.hex() for slot, value in one.committed.items()}
    return {**told, "committed": committed} if isinstance(told, dict) else told
