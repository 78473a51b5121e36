"""``strongroom console``: the pages where people decide, act and look."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

import click
from cryptography import x509

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.cli.output import show
from strongroom.cli.session import json_option, open_wallet, read_file
from strongroom.client.adapters.wallet_folder import SECURITY_KEYS
from strongroom.client.wallet import MAX_WALLET_FILE, SecurityKeys
from strongroom.console.adapters.console_folder import save_keys
from strongroom.console.wiring import AUTHORITY, CERTIFICATE, GENESIS, KEY, Places, run_console
from strongroom.core.adapters.durable import write_durably
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis

CERTIFICATE_LIFE: Final = timedelta(days=90)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_folder: Final = click.option("--folder", type=_FOLDER, required=True, help="The console's own folder.")


@click.group("console")
def console() -> None:
    """Serve the pages where people decide, act and look. It holds nobody's keys."""


@console.command("prepare")
@_folder
@click.option("--home", type=_FOLDER, required=True, help="The deployment's folder: run this on its host.")
@click.option("--host", default="localhost", show_default=True, help="The host name that the console is served under.")
@json_option
def prepare(folder: Path, home: Path, host: str, *, as_json: bool) -> None:
    """Make the console's folder: the genesis, and a certificate of the deployment's development authority.

    The certificate is good for 90 days: run this again to renew it, also while the console runs. For a certificate of
    another authority, replace tls.crt and tls.key in the folder.
    """
    genesis = Genesis.parse(read_file(home / "genesis.json", most=MAX_WALLET_FILE))
    now = SystemClock().now()
    authority = DevCa.open(home / "broker" / "ca", genesis.deployment, at=now)
    # No longer than the authority's own, which nobody would believe it beyond.
    ends = x509.load_pem_x509_certificate(authority.certificate).not_valid_after_utc
    until = min(now + int(CERTIFICATE_LIFE.total_seconds()), int(ends.timestamp()))
    issued = authority.issue_server((host,), at=now, life=timedelta(seconds=until - now))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (
        (GENESIS, genesis.to_bytes()),
        (AUTHORITY, authority.certificate),
        (KEY, issued.private_key),
        (CERTIFICATE, issued.certificate),
    ):
        write_durably(folder / name, content)
    good = format_instant(until)
    told: Json = {"folder": str(folder), "host": host, "genesis": str(genesis.digest), "certificate_until": good}
    lines = [f"{folder} is ready; next: strongroom console admit", f"its certificate is good until {good}"]
    show(told, lines, as_json=as_json)


@console.command("admit")
@_folder
@click.argument("wallets", type=_FOLDER, nargs=-1, required=True)
@json_option
def admit(folder: Path, wallets: tuple[Path, ...], *, as_json: bool) -> None:
    """Let the owners of WALLETS of security keys sign in: only public keys and names of credentials are copied."""
    people: list[Json] = []
    for path in wallets:
        wallet = open_wallet(path)
        if not wallet.identity.key.hardware:
            raise UsageError(
                f"`{wallet.identity.person}` has a wallet of a key file",
                remedy="enrol security keys: strongroom key enrol",
            )
        save_keys(folder, wallet.identity.person, SecurityKeys.parse(wallet.read(SECURITY_KEYS)))
        people.append(wallet.identity.person)
    show({"admitted": people}, f"may sign in: {', '.join(map(str, people))}", as_json=as_json)


@console.command("serve")
@_folder
@click.option("--url", default="https://127.0.0.1:8443", show_default=True, help="The broker's address.")
@click.option("--identity-url", default="https://127.0.0.1:8444", show_default=True, help="Its identity listener's.")
@click.option("--origin", default="https://localhost:8445", show_default=True, help="The console's own, only address.")
@click.option("--issuer", default="", help="The identity provider, if the deployment wants one asked.")
@click.option(
    "--issuer-ca", type=click.Path(path_type=Path, dir_okay=False), help="Authorities (PEM) to believe it by."
)
@click.option("--responder", type=click.Path(path_type=Path), help="The responder's desk.sock, to show its incidents.")
@click.option("--assessments", type=_FOLDER, help="The folder with assessment.json, as `strongroom assess` keeps it.")
@click.option("--quarantine", type=_FOLDER, help="The folder in which deliveries' folders lie, without copies or with.")
def serve(
    *,
    folder: Path,
    url: str,
    identity_url: str,
    origin: str,
    issuer: str,
    issuer_ca: Path | None,
    responder: Path | None,
    assessments: Path | None,
    quarantine: Path | None,
) -> None:
    """Serve the console until it is interrupted."""
    places = Places(
        broker=url,
        identity=identity_url,
        origin=origin,
        issuer=issuer,
        issuer_authority=issuer_ca,
        responder=responder,
        assessments=assessments,
        quarantine=quarantine,
    )
    run_console(folder, places)
