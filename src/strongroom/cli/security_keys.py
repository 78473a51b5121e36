"""``strongroom key enrol`` and its like: a person's security keys, made, looked at and signed for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import require_new
from strongroom.cli.output import show
from strongroom.cli.session import (
    as_wallet,
    json_option,
    passphrase_option,
    read_file,
    session,
    write_file,
    yes_option,
)
from strongroom.client.adapters.security_key import HID, EnrolAt, enrol_keys
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.enrolments import CheckedEnrolment, check_enrolment, lines, sign_enrolment
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.ids import person_id
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.process import read_passphrase
from strongroom.personnel.enrolment import ENROLMENT_TYPE, MAX_ENROLMENT, MIN_KEYS
from strongroom.release.statements import StatementKind

_PATH: Final = click.Path(path_type=Path)
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_MAX_FILE: Final = 2 * MAX_ENROLMENT


@click.command("enrol")
@click.argument("file", type=_FILE)
@click.option("--out", type=_PATH, required=True, help="The wallet's folder, made new.")
@click.option("--id", "name", required=True, help="The person's id, e.g. dana.")
@click.option("--genesis", required=True, help="The deployment's genesis digest, as you were told it: sha256:...")
@click.option("--rp-id", required=True, help="The relying party: a host name of yours, e.g. keys.example.org.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=(HID, HID),
    show_default="hid twice",
    help="Where each security key is: `hid`, or `unix:PATH` for a simulator.",
)
@click.option(
    "--pin-fd", "pin_fds", multiple=True, type=int, help="Read a key's PIN from this open descriptor; one for each."
)
@json_option
def enrol(
    file: Path,
    out: Path,
    name: str,
    genesis: str,
    rp_id: str,
    devices: tuple[str, ...],
    pin_fds: tuple[int, ...],
    *,
    as_json: bool,
) -> None:
    """Make a key on each of two security keys: a wallet that uses them, and in FILE an enrolment for two officers.

    Prints the public keys, a line each. Either one signs; keep the second somewhere else.
    """
    if len(devices) < MIN_KEYS or (pin_fds and len(pin_fds) != len(devices)):
        raise UsageError("two security keys at least are enrolled", remedy="give --device, and --pin-fd, for each")
    for path in (out, file):
        require_new(path)
    person = person_id(name)
    places = [
        EnrolAt(device=device, pin=_pin(number, pin_fds[number] if pin_fds else None))
        for number, device in enumerate(devices)
    ]

    def ready(number: int) -> None:
        if devices[number] == HID:
            click.pause(f"Plug in security key {number + 1}, alone, and press a key.", err=True)

    enrolment, keys = enrol_keys(
        places, rp_id=rp_id, genesis=Digest.parse(genesis), person=person, at=SystemClock().now(), ready=ready
    )
    WalletFolder.create_of_security_keys(out, person, keys)
    write_file(file, Envelope(ENROLMENT_TYPE, enrolment.to_bytes(), ()).to_bytes())
    texts = [str(one.key) for one in keys.keys]
    data: Json = {
        "person": person,
        "keys": [*texts],
        "key_ids": [one.key.key_id for one in keys.keys],
        "wallet": str(out),
        "enrolment": str(file),
    }
    show(data, texts, as_json=as_json)


@click.command("show")
@click.argument("file", type=_FILE)
@as_wallet
@json_option
def show_enrolment(file: Path, wallet: Path, *, as_json: bool) -> None:
    """Check the enrolment in FILE against the roster in force, and show it as a vetting officer sees it."""
    with session(wallet) as person:
        checked = check_enrolment(_read(file), person.refresh())
    show(_json(checked), lines(checked), as_json=as_json)


@click.command("sign")
@click.argument("file", type=_FILE)
@as_wallet
@passphrase_option
@yes_option
@json_option
def sign(file: Path, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Sign, as a vetting officer, for the security keys in FILE, which is rewritten.

    Sign only with the person and both keys before you, their labels read out and compared with what is shown.
    """
    with session(wallet, passphrase_fd) as officer:
        trust = officer.refresh()
        checked = check_enrolment(_read(file), trust)
        click.echo("\n".join(lines(checked)), err=as_json)
        if not yes:
            click.confirm(f"Is `{checked.enrolment.person}` before you, with both keys?", abort=True, err=True)
        envelope = sign_enrolment(checked, trust, officer.wallet.signer(), person=officer.wallet.identity.person)
    write_file(file, envelope.to_bytes())
    signed = check_enrolment(envelope, trust)
    show(_json(signed), f"{file}: signed by {', '.join(signed.signers)}", as_json=as_json)


@click.command("hand-in")
@click.argument("file", type=_FILE)
@as_wallet
@json_option
def hand_in(file: Path, wallet: Path, *, as_json: bool) -> None:
    """Have the enrolment in FILE recorded, once two vetting officers signed it. Then a roster may list the keys."""
    with session(wallet) as person:
        checked = check_enrolment(_read(file), person.refresh())
        recorded = person.api.hand_in(StatementKind.ENROLMENT, checked.envelope)
    data = _json(checked) | {"log_index": recorded.index}
    show(
        dict(data),
        f"the keys of `{checked.enrolment.person}` are enrolled: log entry {recorded.index}",
        as_json=as_json,
    )


def _pin(number: int, descriptor: int | None) -> Callable[[], SecretBytes]:
    def ask() -> SecretBytes:
        if descriptor is not None:
            return read_passphrase(descriptor)
        text = click.prompt(f"PIN of security key {number + 1}", hide_input=True, err=True)
        return SecretBytes(bytearray(text.encode()))

    return ask


def _read(file: Path) -> Envelope:
    return Envelope.parse(read_file(file, most=_MAX_FILE))


def _json(checked: CheckedEnrolment) -> dict[str, Json]:
    return {
        "person": checked.enrolment.person,
        "rp_id": checked.enrolment.rp_id,
        "keys": [
            {
                "key": str(attested.key),
                "key_id": attested.key.key_id,
                "model": attested.authenticator.name,
                "aaguid": attested.authenticator.aaguid,
            }
            for attested in checked.keys
        ],
        "signers": [*checked.signers],
    }
