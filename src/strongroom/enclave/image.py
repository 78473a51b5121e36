"""An enclave image: what is run, from which folders, under which sandbox. Measuring one gives five digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.attestation.measurement import Measurement, command_digest, launch_measurements
from strongroom.attestation.reference_values import ReferenceImage
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId
from strongroom.enclave.sandbox import SandboxProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image. ``trees`` are the measured folders and files by label; they are everything that the view shows."""

    image: ImageId
    command: tuple[str, ...]
    profile: SandboxProfile
    interpreter: str
    trees: Mapping[str, str]


def measured(image: Image, *, interpreter: Digest, files: Digest, genesis: Digest) -> tuple[Measurement, ...]:
    """Return the five measurements of an image, given the digests of its files.

    The sandbox is measured as a whole: a wider view, one more system call, another limit is another image.
    """
    return launch_measurements(
        interpreter=interpreter,
        files=files,
        command=command_digest(image.command, dict(image.profile.environment)),
        sandbox=image.profile.digest,
        genesis=genesis,
    )


def reference_entry(image: ImageId, measurements: tuple[Measurement, ...]) -> Json:
    """Return the image's entry for the reference values."""
    return ReferenceImage.launched(image, measurements).to_json()
