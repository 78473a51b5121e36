"""Reference values: which images are wanted, and which endorsement roots are believed. Signed by the root quorum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.attestation.chain import MAX_CERTIFICATE, EkRoot
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.measurement import MeasuredName, Measurement
from strongroom.attestation.platform_record import ENROLLABLE
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId, image_id

REFERENCE_VALUES_TYPE: Final = payload_type("reference-values.v1")
MAX_REFERENCE_VALUES: Final = 512 * 1024
MAX_IMAGES: Final = 256
MAX_ROOTS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceImage:
    """What one image measures: all five measurements, in their order. A revoked image stays listed, to be refused."""

    image: ImageId
    events: tuple[Measurement, ...]
    revoked: bool = False

    @classmethod
    def read(cls, fields: Fields) -> ReferenceImage:
        """Read ``{image, events, revoked}``."""
        return cls(
            image=fields.parsed("image", image_id),
            events=fields.objects("events", Measurement.read, most=len(MeasuredName)),
            revoked=fields.boolean("revoked"),
        )

    def to_json(self) -> Json:
        """Return ``{image, events, revoked}``."""
        return {"image": self.image, "events": [event.to_json() for event in self.events], "revoked": self.revoked}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """One epoch of reference values. A newer epoch replaces an older one as a whole.

    :raises MalformedError: an image without exactly the five measurements, for another deployment, listed twice or
        alike; a root listed twice, by certificate or by key, or of a class that a TPM can't have.
    """

    genesis: Digest
    epoch: int
    images: tuple[ReferenceImage, ...]
    ek_roots: tuple[EkRoot, ...]
    not_after: Instant
    predecessor: Digest | None = None
    """The reference values before these; none for epoch 1."""

    def __post_init__(self) -> None:
        if len({image.image for image in self.images}) != len(self.images):
            raise MalformedError("the reference values list an image twice")
        if len({image.events for image in self.images}) != len(self.images):
            # Else evidence of a revoked image would also be evidence of another one that isn't.
            raise MalformedError("the reference values list two images with the same measurements")
        for image in self.images:
            if tuple(event.name for event in image.events) != tuple(MeasuredName):
                raise MalformedError(f"the image `{image.image}` must list its five measurements in order")
            if image.events[-1].digest != self.genesis:
                raise MalformedError(f"the image `{image.image}` is measured for another deployment")
        if any(root.isolation not in ENROLLABLE for root in self.ek_roots):
            raise MalformedError("an endorsement root's class must be `measured-host` or `vm-simulated`")
        if len({root.public_key for root in self.ek_roots}) != len(self.ek_roots):
            # A simulator's root that also stood among the hardware roots would turn simulated TPMs into real ones.
            raise MalformedError("the reference values list an endorsement root twice")

    @classmethod
    def parse(cls, data: bytes) -> ReferenceValues:
        """Read canonical bytes; the caller has checked the root quorum's signatures over them.

        :raises MalformedError: another form, or contents that contradict each other.
        """
        with Fields(decode(data, max_bytes=MAX_REFERENCE_VALUES), "reference_values") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                epoch=fields.integer("epoch", least=1),
                images=fields.objects("images", ReferenceImage.read, most=MAX_IMAGES),
                ek_roots=fields.objects("ek_roots", _read_root, most=MAX_ROOTS),
                not_after=fields.instant("not_after"),
                predecessor=fields.digest("predecessor") if fields.optional("predecessor") else None,
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: the payload of a ``reference-values.v1`` envelope."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "epoch": self.epoch,
                "images": [image.to_json() for image in self.images],
                "ek_roots": [
                    {
                        "digest": str(root.digest),
                        "certificate": to_base64(root.certificate),
                        "class": root.isolation.value,
                    }
                    for root in self.ek_roots
                ],
                "not_after": format_instant(self.not_after),
                "predecessor": str(self.predecessor) if self.predecessor else None,
            }
        )

    @property
    def digest(self) -> Digest:
        """How results and log entries name these reference values."""
        return Digest.of(self.to_bytes())

    def root(self, digest: Digest) -> EkRoot | None:
        """Return the pinned root with this digest, if it is still listed."""
        return next((root for root in self.ek_roots if root.digest == digest), None)


def _read_root(fields: Fields) -> EkRoot:
    digest = fields.digest("digest")
    root = EkRoot(fields.binary("certificate", max_length=MAX_CERTIFICATE), fields.parsed("class", IsolationClass))
    # The digest is what people compare by eye; a certificate that doesn't match it is not the one they signed for.
    if root.digest != digest:
        raise MalformedError(f"`{fields.where}`: the certificate isn't the one that the digest names")
    return root
