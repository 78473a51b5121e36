#!/usr/bin/env python3
"""Build Strongroom's wheel from a commit, twice, and write it with its bill of materials and its provenance.

    tools/wheel.py --out dist [--wallet DIR]

The two builds happen in folders of other names and depths, in other time zones and locales, with other hash seeds. One
byte that differs is a failure: nobody could tell such a wheel from one that was tampered with. Times in it are the
commit's. The wallet's keys sign the provenance; without a wallet there is none, and nothing to verify it by.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from strongroom.cli.session import open_wallet, passphrase_option
from strongroom.core import envelope
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, StrongroomError, UnavailableError, UsageError
from strongroom.intake.installation.bill import Bill, Component, pinned
from strongroom.intake.installation.installed import OURS, wheel_tags
from strongroom.intake.installation.provenance import Provenance
from strongroom.intake.installation.record import MAX_RECORD, Record, normal_name
from strongroom.intake.statements import PAYLOAD_TYPE

PINNED: Final = "requirements/runtime.txt"
TOOLS: Final = ("pip", "setuptools")
# What must make no difference: where, when and for whom a wheel is built.
BUILDS: Final[Mapping[str, Mapping[str, str]]] = {
    "one": {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    "another/and/deeper": {"TZ": "Pacific/Chatham", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"},
}


@click.command()
@click.option("--source", type=click.Path(path_type=Path, exists=True), default=Path(), help="The repository.")
@click.option("--commit", default="HEAD", show_default=True, help="What is built: nothing that isn't committed.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="The folder.")
@click.option("--wallet", type=click.Path(path_type=Path, exists=True), help="The wallet that signs the provenance.")
@passphrase_option
def main(source: Path, commit: str, out: Path, wallet: Path | None, passphrase_fd: int | None) -> None:
    """Build the wheel of a commit, twice."""
    try:
        revision = git(source, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").decode().strip()
        committed_at = int(git(source, "log", "-1", "--format=%ct", revision))
        archive = git(source, "-c", "tar.umask=0022", "archive", "--format=tar", revision)
        name, wheel = built(archive, committed_at)
        record = record_of(name, wheel)
        bill = bill_of(archive, name.split("-")[1], committed_at)
        made = Provenance(
            version=bill.version,
            revision=revision,
            wheel=Digest.of(wheel),
            bill=Digest.of(bill.to_bytes()),
            record=record,
            tools=tuple(sorted(f"pkg:pypi/{tool}@{importlib.metadata.version(tool)}" for tool in TOOLS)),
        )
        files = {name: wheel, f"{OURS}-{bill.version}.cdx.json": bill.to_bytes()}
        if wallet is not None:
            files[f"{OURS}-{bill.version}.provenance.json"] = signed(made, wallet, passphrase_fd).to_bytes()
    except StrongroomError as error:
        raise click.ClickException(error.diagnosis()) from None
    out.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (out / file).write_bytes(data)
        click.echo(f"{Digest.of(data)}  {out / file}")
    if wallet is None:
        click.echo("no provenance: without a wallet (--wallet) nobody vouches for this wheel", err=True)


def git(source: Path, *words: str) -> bytes:
    """Return what git says.

    :raises UsageError: it refuses.
    """
    done = subprocess.run(["git", "-C", str(source), *words], capture_output=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise UsageError(f"git {words[0]}: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout


def built(archive: bytes, at: Instant) -> tuple[str, bytes]:
    """Return the name and the bytes of the wheel that both builds made.

    :raises ConflictError: they made two. :raises UnavailableError: one made none.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="wheel-") as work:
        for folder, settings in BUILDS.items():
            place = Path(work, folder)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(place / "source", filter="data")
            found.append(build(place, at, settings))
    first, second = found
    if first != second:
        names = ", ".join(differing(first[1], second[1])[:10]) or "the archive itself"
        raise ConflictError(
            f"two builds of one commit differ in: {names}",
            reason="not-reproducible",
            remedy="find what writes a time, a path or an order of its own into the wheel",
        )
    return first


def build(place: Path, at: Instant, settings: Mapping[str, str]) -> tuple[str, bytes]:
    """Build once, with no network and none of the caller's settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "PIP_CONFIG_FILE": os.devnull, **settings}
    environment["SOURCE_DATE_EPOCH"] = str(at)
    command = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    )
    done = subprocess.run(  # noqa: S603
        [*command, "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(place / "made"), str(place / "source")],
        capture_output=True,
        check=False,
        env=environment,
        umask=0o022,
    )
    made = sorted((place / "made").glob("*.whl"))
    if done.returncode or len(made) != 1:
        raise UnavailableError(f"no wheel was built: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return made[0].name, made[0].read_bytes()


def differing(one: bytes, other: bytes) -> list[str]:
    """Name the files in which two wheels differ: by content, time or permissions."""
    with zipfile.ZipFile(io.BytesIO(one)) as first, zipfile.ZipFile(io.BytesIO(other)) as second:
        facts = [
            {(info.filename, info.CRC, info.file_size, info.date_time, info.external_attr) for info in wheel.infolist()}
            for wheel in (first, second)
        ]
    return sorted({fact[0] for fact in facts[0] ^ facts[1]})


def record_of(name: str, wheel: bytes) -> bytes:
    """Return the wheel's RECORD, once it says just what the wheel holds.

    :raises ConflictError: it says something else.
    """
    project, version = name.split("-")[:2]
    place = f"{project}-{version}.dist-info/RECORD"
    with zipfile.ZipFile(io.BytesIO(wheel)) as opened:
        held = {one: Digest.of(opened.read(one)) for one in opened.namelist() if one != place}
        data = opened.read(place)
    if len(data) > MAX_RECORD or Record.parse(data).files != held:
        raise ConflictError("the wheel's RECORD isn't what the wheel holds")
    return data


def bill_of(archive: bytes, version: str, at: Instant) -> Bill:
    """Return the bill of materials: what the commit pins, as it is installed here.

    :raises ConflictError: another version of it is installed here.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(PINNED)
        if file is None:
            raise UsageError(f"`{PINNED}` isn't a file of the commit")
        components = [as_installed(one) for one in pinned(file.read().decode())]
    return Bill(version=version, made_at=at, components=tuple(sorted(components, key=lambda one: one.name)))


def as_installed(listed: Component) -> Component:
    """Return a library with the digest of what its wheel installed here: `make setup` let in pinned wheels only."""
    try:
        installed = importlib.metadata.distribution(listed.name)
    except importlib.metadata.PackageNotFoundError:
        raise ConflictError(f"`{listed.name}` isn't installed here", remedy="make setup") from None
    record, wheel = installed.read_text("RECORD"), installed.read_text("WHEEL")
    if installed.version != listed.version or normal_name(installed.name) != listed.name or not record or not wheel:
        raise ConflictError(f"`{listed.name}` is installed here as {installed.version}", remedy="make setup")
    return replace(listed, record=Record.parse(record.encode()).digest, tags=wheel_tags(wheel.encode()))


def signed(made: Provenance, wallet: Path, passphrase_fd: int | None) -> Envelope:
    """Return the provenance, signed by both keys of the wallet: the hybrid one, and the one that others' tools know."""
    opened = open_wallet(wallet, passphrase_fd)
    return envelope.sign(PAYLOAD_TYPE, made.to_bytes(), opened.publishing_signer(), opened.signer())


if __name__ == "__main__":
    main()
