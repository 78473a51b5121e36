"""``strongroom attestation collect``: have this machine's chip or devices make statements, without any deployment."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import click

from strongroom.attestation.adapters.configfs_tsm import TsmSource
from strongroom.attestation.adapters.nsm import NsmSource
from strongroom.attestation.adapters.nvml import NvmlDevices
from strongroom.attestation.attester import StatementSource
from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.strongroom import write
from strongroom.attestation.evidence import EvidenceItem
from strongroom.cli.files import json_option
from strongroom.cli.output import show
from strongroom.core.errors import UsageError


class Interface(StrEnum):
    """Where statements come from."""

    TSM = "configfs-tsm"
    """SEV-SNP and TDX guests."""
    NSM = "nsm"
    """AWS Nitro enclaves."""
    NVML = "nvml"
    """NVIDIA GPUs."""


CHIPS: Final = (Interface.TSM, Interface.NSM)


def chip_source(interface: Interface) -> StatementSource:
    """Return the source behind an interface of a chip."""
    return NsmSource() if interface is Interface.NSM else TsmSource(secrets.token_bytes)


@click.command("collect")
@click.option(
    "--from", "interface", type=click.Choice([one.value for one in Interface]), required=True, help="The interface."
)
@click.option("--report-data", help="64 bytes in hex, for configfs-tsm.")
@click.option("--nonce", help="In hex: 32 bytes for nvml, up to 512 for nsm.")
@click.option("--user-data", help="In hex, up to 512 bytes, for nsm.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@json_option
def collect(
    interface: str, report_data: str | None, nonce: str | None, user_data: str | None, out: Path, *, as_json: bool
) -> None:
    """Have this machine make statements that commit to the bytes you give, and write them to a file.

    Judge it with `strongroom attestation verify`, on any machine. TPMs quote for a release: `strongroom enclave`.
    """
    told = {Slot.REPORT_DATA: report_data, Slot.NONCE: nonce, Slot.USER_DATA: user_data}
    slots = {slot: _bytes(slot, text) for slot, text in told.items() if text is not None}
    items = _collected(Interface(interface), slots)
    # Never over another file: evidence is often all that is left of a machine.
    try:
        with out.open("xb") as file:
            file.write(write(items))
    except OSError as error:
        raise UsageError(f"`{out}` can't be written: {error.strerror}") from None
    kinds = [item.kind.value for item in items]
    show({"file": str(out), "kinds": [*kinds]}, f"{out}: {len(items)} statements, {', '.join(kinds)}", as_json=as_json)


def _collected(interface: Interface, slots: Mapping[Slot, bytes]) -> tuple[EvidenceItem, ...]:
    if interface is not Interface.NVML:
        return (chip_source(interface).statement(slots),)
    if set(slots) != {Slot.NONCE}:
        raise UsageError("GPUs sign a nonce and nothing else", remedy="give --nonce alone")
    return NvmlDevices().statements(slots[Slot.NONCE])


def _bytes(slot: Slot, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"--{slot.value} must be hex") from None
