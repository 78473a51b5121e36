"""What the commands that open a model in a process enclave share: the options that say what is opened, and in what."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from strongroom.cli.enclave_order import process_order
from strongroom.cli.grouped import grouped
from strongroom.cli.session import no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId, image_id
from strongroom.enclave.image import Image, reference_entry
from strongroom.enclave.launch.wiring import Launch, measure_image

TPM_HELP: Final = "The TPM: device:/dev/tpmrm0, or a simulator as unix:PATH or tcp:HOST:PORT."
image_option = click.option("--image", required=True, help="The image's name in the reference values.")
sealed_option = click.option(
    "--sealed", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Sealed directory."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What is to be opened, under which approved request, in which image, before which TPM."""

    model: str
    sealed: Path
    image: str
    request: str
    tpm: str

    def launch(self, genesis: Genesis, make: Callable[[ImageId, Path], Image]) -> Launch:
        """Return the launch of what ``make`` makes of the image's name and the sealed directory.

        :raises UsageError: the directory holds another model, or the request is no digest.
        """
        made = make(image_id(self.image), self.sealed)
        return Launch(
            image=made, order=process_order(genesis, made, self.model, self.sealed, self.request), tpm=self.tpm
        )


opening_options: Final = grouped(
    Opening,
    "opening",
    click.argument("model"),
    sealed_option,
    image_option,
    click.option("--request", required=True, help="Digest of the approved request (sha256:...)."),
    click.option("--tpm", required=True, help=TPM_HELP),
)
"""Adds MODEL and the options that say how it is opened; passed as ``opening``."""


def show_measured(wallet: Path, image: str, make: Callable[[ImageId], Image]) -> None:
    """Measure on this machine what ``make`` makes of the image's name, and print its entry for the reference values."""
    genesis = WalletFolder(wallet, no_passphrase).genesis()
    made = make(image_id(image))
    click.echo(json.dumps(reference_entry(made.image, measure_image(made, genesis)), indent=2))
