"""What the commands that serve a model share: the gateway's options, and the way from a started engine to clients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import read_file
from strongroom.cli.grouped import grouped
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.client.service import Session
from strongroom.client.wiring import connect
from strongroom.core.clock import SystemClock
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.gateway.adapters.engines import EngineHost, ProcessHost
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.keys import MAX_FILE, ApiKeys
from strongroom.enclave.gateway.screen_settings import MAX_SETTINGS, ScreenSettings
from strongroom.enclave.gateway.wiring import Second, Serving, serve
from strongroom.enclave.launch.relay import Opened, ReleasePort

_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_OPTIONS: Final = (
    click.option("--api-keys", type=_FILE, required=True, help="Digests of the keys: `enclave serve key`."),
    click.option("--tokenizer", type=_FOLDER, required=True, help="The model's public tokenizer files."),
    click.option("--state", type=click.Path(path_type=Path, file_okay=False), required=True, help="Governor's folder."),
    click.option("--context", default=4096, show_default=True, help="Tokens of prompt and answer together."),
    click.option("--values", default=0, help="Numbers in a vector of the model, where vectors may leave it."),
    click.option("--screens", type=_FILE, help="What judges prompts and answers; see docs/operate/screens.md."),
    click.option(
        "--tell",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The responder's socket for a sensor of kind `strongroom`: who is refused what, and uses how much.",
    ),
    click.option("--tick", default=10, show_default=True, help="Milliseconds between steps of answers; 0 is at once."),
    click.option("--host", default="127.0.0.1", show_default=True),
    click.option("--port", default=8600, show_default=True),
    click.option("--tls-certificate", type=_FILE),
    click.option("--tls-key", type=_FILE),
)
engine_option = click.option(
    "--engine",
    type=click.Choice([one.value for one in BuiltIn]),
    default=BuiltIn.TRANSFORMERS.value,
    show_default=True,
    help="What runs the model; numpy takes Llamas only.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How a gateway was asked to serve."""

    api_keys: Path
    tokenizer: Path
    state: Path
    context: int
    values: int
    screens: Path | None
    tell: Path | None
    tick: int
    host: str
    port: int
    tls_certificate: Path | None
    tls_key: Path | None

    def serving(self, in_force: Callable[[], EgressPolicy]) -> Serving:
        """Read what the options name. ``in_force`` fetches the model's egress policy."""
        return Serving(
            policy=in_force(),
            in_force=in_force,
            tokenizer=PublicTokenizer.folder(self.tokenizer),
            keys=ApiKeys.parse(read_file(self.api_keys, most=MAX_FILE)),
            state=self.state,
            context=self.context,
            values=self.values,
            screens=ScreenSettings.parse(read_file(self.screens, most=MAX_SETTINGS)) if self.screens else None,
            tell=self.tell,
            host=self.host,
            port=self.port,
            certificate=self.tls_certificate,
            key=self.tls_key,
            tick=self.tick / 1000,
        )


gateway_options: Final = grouped(GatewayOptions, "gateway", *_OPTIONS)
"""Adds the gateway's options; passed as ``gateway``."""


def serve_from(
    host: EngineHost,
    gateway: GatewayOptions,
    wallet: WalletFolder,
    port: Callable[[BrokerApi], ReleasePort],
    *,
    second: ProcessHost | None = None,
) -> None:
    """Serve the engine that ``host`` starts, until it ends; the one of ``second`` replays answers.

    ``port`` makes the launcher's view of a broker.
    """
    model = host.order.model
    with connect(wallet) as transport:
        api = BrokerApi(transport)
        serve(
            host,
            port(api),
            api,
            # Signed by the root quorum, and no older than what this wallet saw.
            gateway.serving(lambda: Session(api, wallet, SystemClock()).refresh().egress_of(model)),
            second=Second(second, port(api)) if second else None,
            opened=_tell,
            listening=lambda taken: click.echo(f"serving `{model}` on {gateway.host}:{taken}"),
            err=sys.stderr.buffer,
        )


def _tell(facts: Opened) -> None:
    compared = f"{facts.canaries} canaries are compared first" if facts.canaries else "no canaries: not compared"
    click.echo(
        f"released: {facts.files} files, {facts.bytes:,} bytes opened in memory; log entry {facts.log_index}; "
        f"{compared}",
        err=True,
    )
