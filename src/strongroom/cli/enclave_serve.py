"""``strongroom enclave serve`` and what it takes: a model answers the OpenAI API, and only token ids leave it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import click

from strongroom.cli.enclave_canaries import canaries
from strongroom.cli.enclave_options import Opening, image_option, opening_options, sealed_option, show_measured
from strongroom.cli.enclave_suspensions import lift, suspensions
from strongroom.cli.gateway import GatewayOptions, engine_option, gateway_options, serve_from
from strongroom.cli.grouped import grouped
from strongroom.cli.session import as_wallet, no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.core.errors import UsageError
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.gateway.adapters.engines import ProcessHost
from strongroom.enclave.gateway.keys import PREFIX, entry
from strongroom.enclave.gateway.wiring import engine_image
from strongroom.enclave.launch.relay import ReleasePort


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replay:
    """The second engine, that replays answers: all three are given, or none."""

    replay_image: str | None
    replay_request: str | None
    replay_tpm: str | None

    def opening(self, first: Opening) -> Opening | None:
        """Return what it opens: what the first one does, in an enclave of its own."""
        image, request, tpm = self.replay_image, self.replay_request, self.replay_tpm
        if image and request and tpm:
            return replace(first, image=image, request=request, tpm=tpm)
        if image or request or tpm:
            raise UsageError("a second engine takes --replay-image, --replay-request and --replay-tpm")
        return None


_replay_options: Final = grouped(
    _Replay,
    "replay",
    click.option(
        "--replay-image", help="Image of a second engine that replays answers, as the egress policy names it."
    ),
    click.option("--replay-request", help="Digest of the approved request for it."),
    click.option("--replay-tpm", help="Its TPM: another than --tpm."),
)


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
    @opening_options
    @engine_option
    @_replay_options
    @gateway_options
    @as_wallet
    def run(*, opening: Opening, engine: str, replay: _Replay, gateway: GatewayOptions, wallet: Path) -> None:
        """Open MODEL in a process enclave and answer the OpenAI API in front of it.

        Only token ids leave the enclave, and each is counted before it goes on. When a limit is reached, requests are
        refused with 429. When anything else comes out of the enclave, it is ended within a second, the model stays
        frozen everywhere until its quorum resumes it, and the exit code is 6.

        What may leave is what the deployment's egress policies say (`strongroom egress propose`), and the deployment's
        log counts it.

        With --replay-image, --replay-request and --replay-tpm the other engine opens the model in an enclave of its
        own, and a token that it reproduces costs what the egress policy says for one that is verified.
        """
        second, used = replay.opening(opening), BuiltIn(engine)
        folder = WalletFolder(wallet, no_passphrase)
        host = ProcessHost(opening.launch(folder.genesis(), partial(engine_image, engine=used)))
        other = None
        if second is not None:
            other = ProcessHost(second.launch(folder.genesis(), partial(engine_image, engine=used.other)))
        serve_from(host, gateway, folder, port, second=other)

    return group


@click.command("measure")
@image_option
@sealed_option
@engine_option
@as_wallet
def _measure(image: str, sealed: Path, engine: str, wallet: Path) -> None:
    """Measure the engine on this machine and print its entry for the reference values."""
    show_measured(wallet, image, lambda name: engine_image(name, sealed, BuiltIn(engine)))


@click.command("key")
@click.argument("principal")
def _key(principal: str) -> None:
    """Draw an API key for PRINCIPAL: the key on standard error, its entry for the file of keys on standard output.

    The file is `{"v": 1, "keys": [ENTRY, ...]}` and holds no key.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    click.echo(json.dumps(entry(key, principal), indent=2))
    click.echo(key, err=True)
