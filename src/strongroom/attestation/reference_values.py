"""Reference values: which images are wanted, what is wanted of the machine, which further roots are believed.

One signed, versioned set (the root quorum, m of n). An image lists every measurement that was predicted for it, for
each kind of evidence that it may run on; revoking an image is one newly signed set, in force from the next release on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Final

from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import MeasuredName, Measurement, measured_set, require_enough
from strongroom.attestation.platform_record import TPM_CLASSES
from strongroom.attestation.trust_anchors import MAX_CERTIFICATE, TrustAnchor, Vendor
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId, PlatformId, image_id, platform_id

REFERENCE_VALUES_TYPE: Final = payload_type("reference-values.v1")
MAX_REFERENCE_VALUES: Final = 512 * 1024
MAX_IMAGES: Final = 256
MAX_ROOTS: Final = 64
MAX_ALTERNATIVES: Final = 32
MAX_MEASUREMENTS: Final = 40
MAX_CUSTODY: Final = 1024

MeasuredSet = Mapping[str, str]
"""Names to values, lower-case hex or text, exactly as a verifier's ``Genuine.measurements`` spells them."""
_Listed = tuple[ImageId, MeasuredSet]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceImage:
    """What one image measures. A revoked image stays listed, to be refused.

    ``measured`` maps each kind of evidence to alternatives; one of them must match as a whole, so that half of one
    machine size can't be joined with half of another.
    """

    image: ImageId
    measured: Mapping[EvidenceKind, tuple[MeasuredSet, ...]]
    revoked: bool = False

    @classmethod
    def read(cls, fields: Fields) -> ReferenceImage:
        """Read ``{image, measured: {kind: [{name: value}]}, revoked}``."""
        name = fields.parsed("image", image_id)
        measured = fields.child("measured")
        kinds = [kind for kind in EvidenceKind if measured.optional(kind.value)]
        found = {kind: measured.objects(kind.value, _read_set, most=MAX_ALTERNATIVES) for kind in kinds}
        measured.end()
        return cls(image=name, measured=found, revoked=fields.boolean("revoked"))

    def to_json(self) -> dict[str, Json]:
        """Return ``{image, measured, revoked}``."""
        return {"image": self.image, "measured": self._measured_json(), "revoked": self.revoked}

    @classmethod
    def launched(cls, image: ImageId, measurements: Iterable[Measurement], *, revoked: bool = False) -> ReferenceImage:
        """Return the entry of an image whose launcher measures into a TPM."""
        return cls(image=image, measured={EvidenceKind.TPM2: (measured_set(measurements),)}, revoked=revoked)

    @property
    def measurement(self) -> Digest:
        """What a request names: SHA-256 over everything that the image may measure."""
        return Digest.of(encode(self._measured_json()))

    def narrower_than(self, before: ReferenceImage | None) -> bool:
        """Tell whether this entry wants nothing that ``before`` didn't want."""
        if before is None:
            return False
        lists = all(
            kind in before.measured and all(one in before.measured[kind] for one in sets)
            for kind, sets in self.measured.items()
        )
        # Fewer kinds of devices would let an image run without those that it was to be checked with.
        devices = {kind for kind in self.measured if kind.is_device} == {k for k in before.measured if k.is_device}
        return lists and devices and (self.revoked or not before.revoked)

    def _measured_json(self) -> dict[str, Json]:
        return {kind.value: [dict(one) for one in sets] for kind, sets in self.measured.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyRecord:
    """The quorum's word that a platform stands in physical custody: who looks after it is written in ``record``."""

    platform: PlatformId
    record: Digest
    until: Instant

    @classmethod
    def read(cls, fields: Fields) -> CustodyRecord:
        """Read ``{platform, record, until}``."""
        return cls(
            platform=fields.parsed("platform", platform_id),
            record=fields.digest("record"),
            until=fields.instant("until"),
        )

    def to_json(self) -> Json:
        """Return ``{platform, record, until}``."""
        return {"platform": self.platform, "record": str(self.record), "until": format_instant(self.until)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """One epoch of reference values. A newer epoch replaces an older one as a whole.

    :raises MalformedError: an image that measures nothing, for another deployment, listed twice or alike; a root listed
        twice, by certificate or by key, or of a class that it can't vouch for.
    """

    genesis: Digest
    epoch: int
    images: tuple[ReferenceImage, ...]
    anchors: tuple[TrustAnchor, ...]
    """TPM makers' roots, and roots made for tests. Chip makers' own roots ship with the package."""
    appraisal: AppraisalPolicy
    custody: tuple[CustodyRecord, ...] = ()
    not_after: Instant
    predecessor: Digest | None = None
    """The reference values before these; none for epoch 1."""

    def __post_init__(self) -> None:
        if len({image.image for image in self.images}) != len(self.images):
            raise MalformedError("the reference values list an image twice")
        for image in self.images:
            self._check_image(image)
        _refuse_alike(self.images)
        for anchor in self.anchors:
            _check_anchor(anchor)
        if len({anchor.public_key for anchor in self.anchors}) != len(self.anchors):
            # A simulator's root that also stood among the hardware roots would turn simulated TPMs into real ones.
            raise MalformedError("the reference values list a root twice")
        if len({custody.platform for custody in self.custody}) != len(self.custody):
            raise MalformedError("the reference values list a platform's custody twice")

    def _check_image(self, image: ReferenceImage) -> None:
        main = [kind for kind in image.measured if not kind.is_device]
        if not main or not all(image.measured.values()):
            raise MalformedError(f"the image `{image.image}` lists no measurement of a platform, or an empty kind")
        for kind, sets in image.measured.items():
            for one in sets:
                self._check_set(image.image, kind, one)

    def _check_set(self, image: ImageId, kind: EvidenceKind, one: MeasuredSet) -> None:
        required, optional = self.appraisal.names(kind)
        names = set(one)
        if not required <= names <= required | optional:
            unknown, missing = sorted(names - required - optional), sorted(required - names)
            raise MalformedError(
                f"the image `{image}` must list for `{kind}`: {', '.join(sorted(required)) or 'any that it has'}; "
                f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown)[:80] or 'none'}"
            )
        if kind is EvidenceKind.TPM2:
            require_enough(names)
            if one.get(MeasuredName.GENESIS, str(self.genesis)) != str(self.genesis):
                raise MalformedError(f"the image `{image}` is measured for another deployment")

    @classmethod
    def parse(cls, data: bytes) -> ReferenceValues:
        """Read canonical bytes; the caller has checked the root quorum's signatures over them.

        :raises MalformedError: another form, or contents that contradict each other.
        """
        with Fields(decode(data, max_bytes=MAX_REFERENCE_VALUES), "reference_values") as fields:
            fields.constant("v", 1)
            with fields.child("appraisal") as appraisal:
                policy = AppraisalPolicy.read(appraisal)
            return cls(
                genesis=fields.digest("genesis"),
                epoch=fields.integer("epoch", least=1),
                images=fields.objects("images", ReferenceImage.read, most=MAX_IMAGES),
                anchors=fields.objects("anchors", _read_anchor, most=MAX_ROOTS),
                appraisal=policy,
                custody=fields.objects("custody", CustodyRecord.read, most=MAX_CUSTODY),
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
                "anchors": [
                    {
                        "vendor": anchor.vendor.value,
                        "digest": str(anchor.digest),
                        "certificate": to_base64(anchor.certificate),
                        "class": anchor.isolation.value,
                    }
                    for anchor in self.anchors
                ],
                "appraisal": self.appraisal.to_json(),
                "custody": [custody.to_json() for custody in self.custody],
                "not_after": format_instant(self.not_after),
                "predecessor": str(self.predecessor) if self.predecessor else None,
            }
        )

    @property
    def digest(self) -> Digest:
        """How results and log entries name these reference values."""
        return Digest.of(self.to_bytes())

    def image(self, name: ImageId) -> ReferenceImage | None:
        """Return the image of this name, if it is listed."""
        return next((image for image in self.images if image.image == name), None)

    def anchor(self, digest: Digest) -> TrustAnchor | None:
        """Return the further root with this digest, if it is still listed."""
        return next((anchor for anchor in self.anchors if anchor.digest == digest), None)

    def only_takes_away_from(self, before: ReferenceValues) -> bool:
        """Tell whether nothing is wanted or believed here that ``before`` didn't want and believe as well.

        Such a set needs no waiting time: to revoke an image must not take a day.
        """
        known = {image.image: image for image in before.images}
        return (
            self.genesis == before.genesis
            and self.appraisal == before.appraisal
            and self.not_after <= before.not_after
            and set(self.anchors) <= set(before.anchors)
            and set(self.custody) <= set(before.custody)
            and all(image.narrower_than(known.get(image.image)) for image in self.images)
        )

    def in_custody(self, platform: PlatformId, at: Instant) -> bool:
        """Tell whether the quorum's word about the platform's custody holds at an instant."""
        return any(one.platform == platform and at < one.until for one in self.custody)


def _refuse_alike(images: tuple[ReferenceImage, ...]) -> None:
    # The same accelerator serves many images; only platforms tell them apart.
    for kind in (kind for kind in EvidenceKind if not kind.is_device):
        by_names: dict[frozenset[str], list[_Listed]] = {}
        for image in images:
            for one in image.measured.get(kind, ()):
                by_names.setdefault(frozenset(one), []).append((image.image, one))
        for first, second in combinations_with_replacement(by_names, 2):
            # Else evidence of a revoked image would also be evidence of another one that isn't.
            if _alike(by_names[first], by_names[second], sorted(first & second)):
                raise MalformedError("the reference values list two images with the same measurements")


def _alike(first: list[_Listed], second: list[_Listed], shared: list[str]) -> bool:
    """Tell whether evidence can be of two images: they agree on what both list, and one may list more besides."""
    listed: dict[tuple[str, ...], set[ImageId]] = {}
    for image, one in first:
        listed.setdefault(tuple(one[name] for name in shared), set()).add(image)
    return bool(shared) and any(
        listed.get(tuple(one[name] for name in shared), {image}) != {image} for image, one in second
    )


def _check_anchor(anchor: TrustAnchor) -> None:
    if anchor.vendor is Vendor.TPM:
        if anchor.isolation not in TPM_CLASSES:
            raise MalformedError("a TPM maker's root has the class `measured-host` or `vm-simulated`")
    elif anchor.isolation is not IsolationClass.VM_SIMULATED:
        # What chip makers sign with ships with the package; a root that somebody brings along is made for tests.
        raise MalformedError(f"a further `{anchor.vendor}` root can only have the class `vm-simulated`")


def _read_set(fields: Fields) -> MeasuredSet:
    names = fields.names(most=MAX_MEASUREMENTS)
    return {name: fields.text(name, max_length=256) for name in names}


def _read_anchor(fields: Fields) -> TrustAnchor:
    digest = fields.digest("digest")
    anchor = TrustAnchor(
        fields.parsed("vendor", Vendor),
        fields.binary("certificate", max_length=MAX_CERTIFICATE),
        fields.parsed("class", IsolationClass),
    )
    # The digest is what people compare by eye; a certificate that doesn't match it is not the one they signed for.
    if anchor.digest != digest:
        raise MalformedError(f"`{fields.where}`: the certificate isn't the one that the digest names")
    return anchor
