"""What an enclave is ordered to open: the version in a sealed directory, under one approved request."""

from __future__ import annotations

from pathlib import Path

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import model_id, platform_id
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.image import Image
from strongroom.enclave.launch.wiring import measure_image
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.layout import SEALED
from strongroom.enclave.vm.prediction import launched
from strongroom.sealing.adapters.directory import read_envelope
from strongroom.sealing.manifest import Manifest, read_manifest


def process_order(genesis: Genesis, made: Image, model: str, sealed: Path, request: str) -> Order:
    """Return the order for a process enclave on this machine.

    :raises UsageError: the directory holds another model, or ``request`` is no digest.
    """
    name, manifest, version = _checked(model, sealed, request)
    return Order(
        genesis=genesis,
        request=name,
        model=version.model,
        version=version.version,
        manifest=manifest,
        sealed=str(sealed.resolve()),
        command=made.command,
        measurements=measure_image(made, genesis),
    )


def machine_order(
    genesis: Genesis, image: VmImage, model: str, sealed: Path, request: str, *, platform: str | None
) -> Order:
    """Return the order for a machine of ``image``, which opens it as ``platform`` where that is given.

    :raises UsageError: as :func:`process_order`.
    """
    name, manifest, version = _checked(model, sealed, request)
    # What isn't believed inside is what will be found there anyway: the image's own command, and its own measurements.
    return Order(
        genesis=genesis,
        request=name,
        model=version.model,
        version=version.version,
        manifest=manifest,
        sealed=SEALED,
        command=image.command,
        measurements=launched(image, genesis.digest),
        platform=platform_id(platform) if platform else None,
    )


def _checked(model: str, sealed: Path, request: str) -> tuple[Digest, Envelope, Manifest]:
    manifest = read_envelope(sealed)
    version = read_manifest(manifest)
    if version.model != model_id(model):
        raise UsageError(f"the sealed directory holds `{version.model}`, not `{model}`")
    try:
        return Digest.parse(request), manifest, version
    except MalformedError as error:
        raise UsageError(f"--request: {error.message}") from None
