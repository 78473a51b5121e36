"""A room whose platform is a simulated SEV-SNP chip: enrolled by its evidence, and released to on its evidence."""

from __future__ import annotations

from dataclasses import replace

from simulators.attester import NOW
from simulators.sev_snp_chain import MEASUREMENT, Machine, anchors, revocation_list
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.evidence import Evidence, EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.allowed import ANYTHING
from strongroom.attestation.policies.sev_snp import SevSnpPolicy
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import SigningKey
from strongroom.attestation.transcript import Binding
from strongroom.core.envelope import Envelope
from strongroom.core.ids import PlatformId
from strongroom.keeper.registry import OpenChipEnrolment, PlatformRegistry
from strongroom.keys.recipient import RecipientKey
from support.deployment import DAY
from support.room import IMAGE, Room, counted_bytes

KIND = EvidenceKind.SEV_SNP
RULES = replace(SevSnpPolicy.strictest(), chips=ANYTHING, providers=ANYTHING, signing_keys=tuple(SigningKey)[:2])
"""The strictest rules, for any chip: which ones are believed is what enrolment says."""
APPRAISAL = replace(AppraisalPolicy.strictest(KIND), kinds={KIND: RULES})


def collateral() -> Bundle:
    """What AMD would publish: a current list that revokes nothing."""
    return Bundle.of((read_item(CollateralKind.REVOCATION_LIST, revocation_list()),))


class SnpRoom(Room):
    """See the module."""

    machine = Machine()
    """What the chip says; tests replace it."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = PlatformRegistry(self.keeper, self.clock, counted_bytes)
        self._platform_id = PlatformId("")

    def image(self) -> ReferenceImage:
        """The image, by its launch measurement."""
        return ReferenceImage(image=IMAGE, measured={KIND: ({"measurement": MEASUREMENT.hex()},)})

    def first_values(self) -> ReferenceValues:
        """The first reference values: the chip's kind alone, and the simulated root of one product."""
        return ReferenceValues(
            genesis=self.genesis.digest,
            epoch=1,
            images=(self.image(),),
            anchors=anchors(Product.GENOA).anchors,
            appraisal=APPRAISAL,
            not_after=NOW + 90 * DAY,
        )

    @property
    def platform_id(self) -> PlatformId:
        """The enrolled chip."""
        return self._platform_id

    def answer(self, opened: OpenChipEnrolment, machine: Machine | None = None) -> bytes:
        """Return a chip's evidence for an enrolment."""
        return replace(machine or self.machine, report_data=opened.pending.binding.report_data).body()

    async def enrol(self, machine: Machine | None = None) -> Envelope:
        """Enrol a chip."""
        opened = self.registry.begin_chip(KIND)
        return await self.registry.finish_chip(opened.session, self.answer(opened, machine))

    async def _enrol(self) -> None:
        self.keeper.bundle = collateral()
        self.record = await self.enrol()
        told = self.parse(self.record.payload)
        assert isinstance(told, dict)
        self._platform_id = PlatformId(str(told["platform"]))

    def evidence(self, binding: Binding, key: RecipientKey) -> Evidence:
        """Answer as the chip does."""
        body = replace(self.machine, report_data=binding.report_data).body()
        return Evidence(platform=self.platform_id, main=EvidenceItem(KIND, body), recipient_key=key.public)
