"""``strongroom doctor --self``: whether what is installed is what was built and signed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import strongroom
from strongroom.cli.files import read_file
from strongroom.cli.output import show
from strongroom.cli.public_keys import public_key
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, TamperedError, UsageError
from strongroom.core.signature import SignatureAlgorithm
from strongroom.intake.adapters.site_packages import SitePackages
from strongroom.intake.installation.bill import MAX_BILL, Bill
from strongroom.intake.installation.installed import Judgement, judge_site
from strongroom.intake.installation.provenance import MAX_PROVENANCE, Provenance
from strongroom.intake.rules import shown

_SHOWN: Final = 50


def examine_installation(
    site: Path | None, provenance: Path | None, key: str | None, bill: Path | None, *, as_json: bool
) -> None:
    """Compare a folder of packages with what was signed, and print what was found.

    :param site: the folder; None for the one that this program runs from.
    :raises UsageError: files that don't belong together, or missing ones.
    :raises TamperedError: the bill isn't the one that was signed. :raises SignatureError: the provenance isn't signed.
    :raises UnavailableError: Strongroom isn't installed there from a wheel.
    """
    judged, signed, listed = judge_installation(site, provenance, key, bill)
    show(_data(judged, signed, listed), _text(judged, signed, listed), as_json=as_json)
    try:
        judged.check()
    except StrongroomError as error:
        if not as_json:
            raise
        sys.exit(int(error.exit_code))


def judge_installation(
    site: Path | None, provenance: Path | None, key: str | None, bill: Path | None
) -> tuple[Judgement, Provenance | None, Bill | None]:
    """Compare a folder of packages with what was signed; returns that too, and the list of libraries.

    :raises StrongroomError: as :func:`examine_installation`.
    """
    signed = _signed(provenance, key)
    listed = _listed(bill, signed)
    packages = SitePackages(site or Path(strongroom.__file__).resolve().parents[1])
    return judge_site(packages, sys.implementation.cache_tag, signed, listed), signed, listed


def _signed(provenance: Path | None, key: str | None) -> Provenance | None:
    if (provenance is None) != (key is None):
        raise UsageError("a provenance is believed by its signer's key", remedy="give --provenance and --key together")
    if provenance is None or key is None:
        return None
    trusted = public_key(key, SignatureAlgorithm.ED25519_ML_DSA_65)
    return Provenance.verified(read_file(provenance, most=MAX_PROVENANCE), trusted)


def _listed(bill: Path | None, signed: Provenance | None) -> Bill | None:
    if bill is None:
        return None
    if signed is None:
        raise UsageError("a bill of materials is believed by a signed provenance", remedy="give --provenance and --key")
    data = read_file(bill, most=MAX_BILL)
    if not Digest.of(data).matches(signed.bill):
        raise TamperedError(f"`{bill.name}` isn't the bill of materials that the provenance names", reason="other-bill")
    return Bill.parse(data)


def _data(judged: Judgement, signed: Provenance | None, listed: Bill | None) -> Json:
    return {
        "as_built": not judged.findings,
        "signed": signed is not None,
        "version": judged.version,
        "revision": None if signed is None else signed.revision,
        "files": judged.files,
        "compiled": judged.compiled,
        "libraries": None if listed is None else judged.libraries,
        "unlisted": [*judged.unlisted],
        "at_start": [shown(path).strip("`") for path in judged.at_start],
        "findings": [{"path": shown(one.path).strip("`"), "wrong": one.wrong.value} for one in judged.findings],
    }


def _text(judged: Judgement, signed: Provenance | None, listed: Bill | None) -> list[str]:
    lines = [f"{one.wrong.value:<29}  {shown(one.path)}" for one in judged.findings[:_SHOWN]]
    if len(judged.findings) > _SHOWN:
        lines.append(f"and {len(judged.findings) - _SHOWN} more: --json lists all")
    if lines:
        lines.append("")
    lines.append(f"strongroom {judged.version}: {judged.files} files, {judged.compiled} compiled files")
    if signed is None:
        lines.append("compared with its RECORD only, which whoever changed a file could change too (give --provenance)")
    else:
        lines.append(f"compared with a signed provenance, of commit {signed.revision}")
    if listed is None:
        lines.append("libraries weren't compared with a bill of materials (give --sbom)")
        return lines
    lines.append(f"{judged.libraries} of {len(listed.components)} libraries are as the bill of materials says")
    for label, names in (
        ("not in the bill of materials", judged.unlisted),
        ("of these, run whenever Python starts", judged.at_start),
    ):
        if names:
            lines.append(f"{label}: {', '.join(shown(name).strip('`') for name in names)}")
    return lines
