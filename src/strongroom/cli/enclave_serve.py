"""``strongroom enclave serve`` and what it takes: a model answers the OpenAI API, and only token ids leave it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from strongroom.cli.enclave_canaries import canaries
from strongroom.cli.enclave_order import process_order
from strongroom.cli.enclave_suspensions import lift, suspensions
from strongroom.cli.gateway import GatewayOptions, engine_option, gateway_options, serve_from
from strongroom.cli.session import as_wallet, no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.core.errors import UsageError
from strongroom.core.ids import image_id
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.gateway.adapters.engines import ProcessHost
from strongroom.enclave.gateway.keys import PREFIX, entry
from strongroom.enclave.gateway.wiring import engine_image
from strongroom.enclave.image import reference_entry
from strongroom.enclave.launch.relay import ReleasePort
from strongroom.enclave.launch.wiring import Launch, measure_image

_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_sealed = click.option("--sealed", type=_FOLDER, required=True, help="Sealed directory.")
_image = click.option("--image", required=True, help="The image's name in the reference values.")


def serving(port: Callable[[BrokerApi], ReleasePort]) -> click.Group:
    """Return the commands. ``port`` makes the launcher's view of a broker."""

    @click.group("serve")
    def group() -> None:
        """Serve a model over the OpenAI API: measure the engine, draw API keys, run."""

    group.add_command(_measure)
    group.add_command(_key)
    group.add_command(canaries)
    group.add_command(suspensions)
    group.add_command(lift)

    @group.command("run")
    @click.argument("model")
    @_sealed
    @_image
    @click.option("--request", "request_text", required=True, help="Digest of the approved request (sha256:...).")
    @click.option("--tpm", required=True, help="The TPM: device:/dev/tpmrm0, or unix:PATH or tcp:HOST:PORT.")
    @engine_option
    @click.option(
        "--replay-image", help="Image of a second engine that replays answers, as the egress policy names it."
    )
    @click.option("--replay-request", help="Digest of the approved request for it.")
    @click.option("--replay-tpm", help="Its TPM: another than --tpm.")
    @gateway_options
    @as_wallet
    def run(
        model: str,
        *,
        sealed: Path,
        image: str,
        request_text: str,
        tpm: str,
        engine: str,
        replay_image: str | None,
        replay_request: str | None,
        replay_tpm: str | None,
        gateway: GatewayOptions,
        wallet: Path,
    ) -> None:
        """Open MODEL in a process enclave and answer the OpenAI API in front of it.

        Only token ids leave the enclave, and each is counted before it goes on. When a limit is reached, requests are
        refused with 429. When anything else comes out of the enclave, it is ended within a second, the model stays
        frozen everywhere until its quorum resumes it, and the exit code is 6.

        What may leave is what the deployment's egress policies say (`strongroom egress propose`), and the deployment's
        log counts it.

        With --replay-image, --replay-request and --replay-tpm the other engine opens the model in an enclave of its
        own, and a token that it reproduces costs what the egress policy says for one that is verified.
        """
        whole = replay_image and replay_request and replay_tpm
        if (replay_image or replay_request or replay_tpm) and not whole:
            raise UsageError("a second engine takes --replay-image, --replay-request and --replay-tpm")
        folder, used = WalletFolder(wallet, no_passphrase), BuiltIn(engine)
        launch = _launch(folder, model, sealed, image, request_text, tpm, used)
        second = None
        if replay_image and replay_request and replay_tpm:
            second = _launch(folder, model, sealed, replay_image, replay_request, replay_tpm, used.other)
        serve_from(ProcessHost(launch), gateway, folder, port, second=ProcessHost(second) if second else None)

    return group


def _launch(
    folder: WalletFolder, model: str, sealed: Path, image: str, request_text: str, tpm: str, engine: BuiltIn
) -> Launch:
    made = engine_image(image_id(image), sealed, engine)
    order = process_order(folder.genesis(), made, model, sealed, request_text)
    return Launch(image=made, order=order, tpm=tpm)


@click.command("measure")
@_image
@_sealed
@engine_option
@as_wallet
def _measure(image: str, sealed: Path, engine: str, wallet: Path) -> None:
    """Measure the engine on this machine and print its entry for the reference values."""
    genesis = WalletFolder(wallet, no_passphrase).genesis()
    made = engine_image(image_id(image), sealed, BuiltIn(engine))
    click.echo(json.dumps(reference_entry(made.image, measure_image(made, genesis)), indent=2))


@click.command("key")
@click.argument("principal")
def _key(principal: str) -> None:
    """Draw an API key for PRINCIPAL: the key on standard error, its entry for the file of keys on standard output.

    The file is `{"v": 1, "keys": [ENTRY, ...]}` and holds no key.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    click.echo(json.dumps(entry(key, principal), indent=2))
    click.echo(key, err=True)
