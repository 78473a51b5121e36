"""``strongroom attestation collateral``: fetch what chip makers publish, carry it, import it, see what it is worth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from strongroom.attestation.adapters.fetch_amd import AMD_URL
from strongroom.attestation.adapters.fetch_intel import INTEL_ROOT_URL, INTEL_URL
from strongroom.attestation.adapters.fetch_nvidia import NVIDIA_OCSP_URL, NVIDIA_RIM_URL
from strongroom.attestation.bundle.age import concerns, held_items, makers_of
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.format import EMPTY, MAX_BUNDLE, Bundle
from strongroom.attestation.bundle.held import Held
from strongroom.attestation.bundle.merge import Merged, admit
from strongroom.attestation.bundle.reading import ReadItem
from strongroom.attestation.bundle.wants import Wants, amd_wanted, intel_wanted, wants_of
from strongroom.attestation.containers.contained import MAX_FILE
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.recorded import read_file as read_evidence
from strongroom.attestation.trust_anchors import TrustAnchor, TrustAnchors, Vendor, load_certificate, vendor_anchors
from strongroom.cli.attestation_policy import read_policy_file
from strongroom.cli.collateral_fetch import Services, fetched
from strongroom.cli.output import end, show, table
from strongroom.cli.session import as_wallet, json_option, no_passphrase, read_file, write_file
from strongroom.client.wiring import open_session
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, SystemClock, format_instant
from strongroom.core.errors import ExitCode, StrongroomError, UsageError

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_NEW_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_NAME_WIDTH: Final = 52
_bundle = click.option("--bundle", type=_NEW_FILE, help="A bundle's file; without it, the deployment's collateral.")
_anchor = click.option(
    "--anchor",
    "anchors",
    multiple=True,
    nargs=2,
    type=(click.Choice(sorted(one.value for one in Vendor)), _FILE),
    metavar="MAKER CERTIFICATE",
    help="Believe a root made for tests, too. Never for a bundle that real evidence is judged by.",
)


@click.group("collateral")
def collateral() -> None:
    """What chip makers publish: certificates, revocation lists, Intel's TCB information, NVIDIA's manifests."""


@collateral.command("import")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@_bundle
@_anchor
@as_wallet
@json_option
def import_(
    files: tuple[Path, ...],
    bundle: Path | None,
    anchors: tuple[tuple[str, Path], ...],
    wallet: Path,
    *,
    as_json: bool,
) -> None:
    """Import bundles and makers' own files: all of it, or nothing.

    Each item must lead to a root of its maker that is pinned, and none may be older than the one that is held.
    Manifests of a VBIOS or a switch need their RIM id in the file's name.
    """
    handed_in = Bundle.of(item for path in files for item in _read(path))
    if bundle is not None:
        merged = _merged(bundle, handed_in, _roots(anchors))
        show(_told(merged) | {"file": str(bundle)}, f"{bundle}: {_said(merged)}", as_json=as_json)
        return
    if anchors:
        raise UsageError("a deployment's further roots stand in its reference values", remedy="leave out --anchor")
    with open_session(wallet, passphrase=no_passphrase) as session:
        session.refresh()
        came = session.api.import_collateral(handed_in.to_bytes())
    told: Json = {
        "index": came.index,
        "digest": str(came.digest),
        "items": came.items,
        "added": came.added,
        "replaced": came.replaced,
    }
    if came.index is None:
        text = f"nothing new: all of it was held before ({came.items} items)"
    else:
        text = f"{came.added} added, {came.replaced} replaced, {came.items} in all; recorded as log entry {came.index}"
    show(told, text, as_json=as_json)


@collateral.command("show")
@_bundle
@_anchor
@as_wallet
@json_option
def show_(bundle: Path | None, anchors: tuple[tuple[str, Path], ...], wallet: Path, *, as_json: bool) -> None:
    """List what is held: whose it is, from when to when it counts, and what it is worth now."""
    now = SystemClock().now()
    if bundle is not None:
        loaded = _load(bundle)
        held, digest, lost = _held(loaded, _roots(anchors), now), loaded.digest, False
    else:
        with open_session(wallet, passphrase=no_passphrase) as session:
            session.refresh()
            shown = session.api.collateral()
        held, digest, lost = shown.items, shown.digest, shown.lost
    rows = [
        (one.kind.value, one.maker or "-", _short(one.name), _day(one.issued), _day(one.ends), one.state(now).value)
        for one in held
    ]
    lines = [table(rows, ("KIND", "MAKER", "NAME", "ISSUED", "ENDS", "STATE"))] if rows else ["no collateral"]
    lines.append(f"{len(rows)} items, {digest}")
    if lost:
        lines.append("The log names a bundle that the keeper doesn't have any more: import it again.")
    items: list[Json] = [one.to_json() | {"state": one.state(now).value} for one in held]
    show({"digest": str(digest), "lost": lost, "items": items}, lines, as_json=as_json)


@collateral.command("age")
@_bundle
@click.option("--policy", type=_FILE, help="With --bundle: only what this appraisal policy needs counts.")
@click.option("--fail-under-days", "days", type=click.IntRange(0, 3650), default=0, help="Warn this long before.")
@_anchor
@as_wallet
@json_option
def age(
    bundle: Path | None,
    policy: Path | None,
    days: int,
    anchors: tuple[tuple[str, Path], ...],
    wallet: Path,
    *,
    as_json: bool,
) -> None:
    """Say what is missing, has expired, or will soon, of what the policy in force needs; then exit with 1."""
    now = SystemClock().now()
    if bundle is not None:
        held = _held(_load(bundle), _roots(anchors), now)
        rules = read_policy_file(policy) if policy else None
    elif policy is not None:
        raise UsageError("a deployment's policy is the one in force", remedy="leave out --policy, or give --bundle")
    else:
        with open_session(wallet, passphrase=no_passphrase) as session:
            values = session.refresh().reference_values
            held = session.api.collateral().items
        rules = values.appraisal if values else None
    found = concerns(held, rules, now, days=days)
    lines = [f"{_left(one.ends, now)}: {one.what}" for one in found]
    later = min((one.ends for one in held if one.ends > now + days * 86400), default=None)
    if later is not None:
        lines.append(f"{len(held)} items; the next end is at {format_instant(later)}, {_left(later, now)}")
    told: list[Json] = [
        {"what": one.what, "ends": None if one.ends is None else format_instant(one.ends)} for one in found
    ]
    upcoming = None if later is None else format_instant(later)
    show(
        {"ok": not found, "concerns": told, "items": len(held), "next": upcoming},
        lines or ["no collateral, and none is needed"],
        as_json=as_json,
    )
    if found:
        end(ExitCode.FAILED)


@collateral.command("fetch")
@click.option("--out", type=_NEW_FILE, required=True, help="The bundle's file; what is in it already stays.")
@click.option("--for", "evidence", multiple=True, type=_FILE, help="Evidence: fetch what judging it takes.")
@click.option("--amd", multiple=True, metavar="PRODUCT[/CHIP/TCB]", help="AMD: milan, genoa or turin; or one chip.")
@click.option("--intel", multiple=True, metavar="FMSPC[/CA]", help="Intel: a family of platforms; CA: platform.")
@click.option("--nvidia", multiple=True, metavar="RIM_ID", help="NVIDIA: a reference manifest.")
@click.option("--amd-url", default=AMD_URL, show_default=True, help="AMD's service, or a cache of it.")
@click.option("--intel-url", default=INTEL_URL, show_default=True, help="Intel's service, or a cache of it.")
@click.option("--intel-root-url", default=INTEL_ROOT_URL, show_default=True, help="Where Intel's root list is.")
@click.option("--nvidia-rim-url", default=NVIDIA_RIM_URL, show_default=True, help="NVIDIA's manifests.")
@click.option("--nvidia-ocsp-url", default=NVIDIA_OCSP_URL, show_default=True, help="NVIDIA's OCSP responder.")
@_anchor
@json_option
def fetch(
    out: Path,
    evidence: tuple[Path, ...],
    amd: tuple[str, ...],
    intel: tuple[str, ...],
    nvidia: tuple[str, ...],
    *,
    amd_url: str,
    intel_url: str,
    intel_root_url: str,
    nvidia_rim_url: str,
    nvidia_ocsp_url: str,
    anchors: tuple[tuple[str, Path], ...],
    as_json: bool,
) -> None:
    """On a machine with a network: fetch from the makers into a bundle, to be carried to where there is none.

    What comes is checked like anything that is imported. Nothing about your deployment is sent, but the makers see
    which chips and versions are asked for.
    """
    wanted = Wants(manifests=nvidia)
    for one in (*map(amd_wanted, amd), *map(intel_wanted, intel)):
        wanted = wanted.joined(one)
    named = wanted.products
    for path in evidence:
        wanted = wanted.joined(wants_of(read_evidence(read_file(path, most=MAX_FILE)), named))
    if wanted == Wants():
        raise UsageError("nothing to fetch", remedy="give --for EVIDENCE, --amd, --intel or --nvidia")
    services = Services(
        amd=amd_url,
        intel=intel_url,
        intel_root=intel_root_url,
        nvidia_rim=nvidia_rim_url,
        nvidia_ocsp=nvidia_ocsp_url,
    )
    merged = _merged(out, Bundle.of(fetched(wanted, services)), _roots(anchors))
    show(_told(merged) | {"file": str(out)}, f"{out}: {_said(merged)}", as_json=as_json)


def _read(path: Path) -> tuple[ReadItem, ...]:
    try:
        return read_collateral_file(read_file(path, most=MAX_BUNDLE), file_name=path.name)
    except StrongroomError as error:
        # Of many files, which one.
        error.message = f"`{path.name}`: {error.message}"
        raise


def _load(path: Path) -> Bundle:
    return Bundle.parse(read_file(path, most=MAX_BUNDLE))


def _merged(path: Path, handed_in: Bundle, roots: TrustAnchors) -> Merged:
    held = _load(path) if path.exists() else EMPTY
    merged, _makers = admit(held, handed_in, roots, SystemClock().now())
    write_file(path, merged.bundle.to_bytes())
    return merged


def _held(bundle: Bundle, roots: TrustAnchors, now: Instant) -> tuple[Held, ...]:
    return held_items(bundle, makers_of(bundle, roots, now))


def _roots(anchors: Iterable[tuple[str, Path]]) -> TrustAnchors:
    further = []
    for maker, path in anchors:
        (found,) = _only_certificate(path)
        further.append(TrustAnchor(Vendor(maker), found, IsolationClass.VM_SIMULATED))
        click.echo(f"strongroom: `{path.name}` is believed as a root of `{maker}` made for tests", err=True)
    return vendor_anchors().joined(further)


def _only_certificate(path: Path) -> tuple[bytes]:
    items = _read(path)
    if len(items) != 1:
        raise UsageError(f"`{path.name}` must hold one certificate")
    data = items[0].item.data
    load_certificate(data)
    return (data,)


def _told(merged: Merged) -> dict[str, Json]:
    return {
        "digest": str(merged.bundle.digest),
        "items": len(merged.bundle.items),
        "added": merged.added,
        "replaced": merged.replaced,
    }


def _said(merged: Merged) -> str:
    return f"{merged.added} added, {merged.replaced} replaced, {len(merged.bundle.items)} items in all"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 13]}...{name[-10:]}"


def _day(at: Instant) -> str:
    return format_instant(at)[:10]


def _left(ends: Instant | None, now: Instant) -> str:
    if ends is None:
        return "missing"
    days = abs(ends - now) // 86400
    return f"ended {days} days ago" if ends < now else f"ends in {days} days"
