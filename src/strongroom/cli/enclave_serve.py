"""``strongroom enclave serve`` and what it takes: a model answers the OpenAI API, and only token ids leave it."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import read_file
from strongroom.cli.session import as_wallet, no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.client.wiring import connect
from strongroom.core.canonical import parse
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import image_id, model_id
from strongroom.egress.policy import MAX_POLICY, EgressPolicy
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.keys import MAX_FILE, PREFIX, ApiKeys, entry
from strongroom.enclave.gateway.wiring import Serving, engine_image, serve
from strongroom.enclave.image import reference_entry
from strongroom.enclave.launch.relay import Opened, ReleasePort
from strongroom.enclave.launch.wiring import Launch, measure_image
from strongroom.sealing.adapters.directory import read_envelope
from strongroom.sealing.manifest import read_manifest

_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_sealed = click.option("--sealed", type=_FOLDER, required=True, help="Sealed directory.")
_image = click.option("--image", required=True, help="The image's name in the reference values.")


def serving(port: Callable[[BrokerApi], ReleasePort]) -> click.Group:
    """Return the commands. ``port`` makes the launcher's view of a broker."""

    @click.group("serve")
    def group() -> None:
        """Serve a model over the OpenAI API: measure the engine, draw API keys, run."""

    group.add_command(_measure)
    group.add_command(_key)

    @group.command("run")
    @click.argument("model")
    @_sealed
    @_image
    @click.option("--request", "request_text", required=True, help="Digest of the approved request (sha256:...).")
    @click.option("--tpm", required=True, help="The TPM: device:/dev/tpmrm0, or unix:PATH or tcp:HOST:PORT.")
    @click.option("--egress-policy", type=_FILE, required=True, help="What may leave: `strongroom egress policy`.")
    @click.option("--api-keys", type=_FILE, required=True, help="Digests of the keys: `enclave serve key`.")
    @click.option("--tokenizer", type=_FOLDER, required=True, help="The model's public tokenizer files.")
    @click.option("--state", type=click.Path(path_type=Path, file_okay=False), required=True, help="Governor's folder.")
    @click.option("--odometer-log", type=click.Path(path_type=Path, dir_okay=False), help="Better on another disk.")
    @click.option("--context", default=4096, show_default=True, help="Tokens of prompt and answer together.")
    @click.option("--tick", default=10, show_default=True, help="Milliseconds between steps of answers; 0 is at once.")
    @click.option("--host", default="127.0.0.1", show_default=True)
    @click.option("--port", "number", default=8600, show_default=True)
    @click.option("--tls-certificate", type=_FILE)
    @click.option("--tls-key", type=_FILE)
    @as_wallet
    def run(
        model: str,
        *,
        sealed: Path,
        image: str,
        request_text: str,
        tpm: str,
        egress_policy: Path,
        api_keys: Path,
        tokenizer: Path,
        state: Path,
        odometer_log: Path | None,
        context: int,
        tick: int,
        host: str,
        number: int,
        tls_certificate: Path | None,
        tls_key: Path | None,
        wallet: Path,
    ) -> None:
        """Open MODEL in a process enclave and answer the OpenAI API in front of it.

        Only token ids leave the enclave, and each is counted before it goes on. When a limit is reached, requests are
        refused with 429. When anything else comes out of the enclave, it is ended within a second, the model stays
        frozen, and the exit code is 6.
        """
        folder = WalletFolder(wallet, no_passphrase)
        order, launch = _launch(folder, model, sealed, image, request_text, tpm)
        with Fields(parse(read_file(egress_policy, most=MAX_POLICY)), "egress-policy") as fields:
            policy = EgressPolicy.read(fields)
        if policy.model != order.model:
            raise UsageError(f"the egress policy is of `{policy.model}`, not of `{order.model}`")
        made = Serving(
            policy=policy,
            tokenizer=PublicTokenizer.folder(tokenizer),
            keys=ApiKeys.parse(read_file(api_keys, most=MAX_FILE)),
            state=state,
            log=odometer_log or state / f"{policy.model}.odometer.log",
            context=context,
            host=host,
            port=number,
            certificate=tls_certificate,
            key=tls_key,
            tick=tick / 1000,
        )
        with connect(folder) as transport:
            serve(
                launch,
                port(BrokerApi(transport)),
                made,
                opened=_tell,
                listening=lambda taken: click.echo(f"serving `{policy.model}` on {host}:{taken}"),
                err=sys.stderr.buffer,
            )

    return group


def _launch(
    folder: WalletFolder, model: str, sealed: Path, image: str, request_text: str, tpm: str
) -> tuple[Order, Launch]:
    genesis, manifest = folder.genesis(), read_envelope(sealed)
    version = read_manifest(manifest)
    if version.model != model_id(model):
        raise UsageError(f"the sealed directory holds `{version.model}`, not `{model}`")
    try:
        request = Digest.parse(request_text)
    except MalformedError as error:
        raise UsageError(f"--request: {error.message}") from None
    made = engine_image(image_id(image), sealed)
    order = Order(
        genesis=genesis,
        request=request,
        model=version.model,
        version=version.version,
        manifest=manifest,
        sealed=str(sealed.resolve()),
        command=made.command,
        measurements=measure_image(made, genesis),
    )
    return order, Launch(image=made, order=order, tpm=tpm)


@click.command("measure")
@_image
@_sealed
@as_wallet
def _measure(image: str, sealed: Path, wallet: Path) -> None:
    """Measure the engine on this machine and print its entry for the reference values."""
    genesis = WalletFolder(wallet, no_passphrase).genesis()
    made = engine_image(image_id(image), sealed)
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


def _tell(facts: Opened) -> None:
    click.echo(
        f"released: {facts.files} files, {facts.bytes:,} bytes opened in memory; log entry {facts.log_index}", err=True
    )
