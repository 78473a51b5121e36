"""What a quote vouches for: the report of an enclave, or of a trust domain in its three versions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader


class TdAttribute(StrEnum):
    """A trust domain's attributes that have a name (TDX Module ABI 348551-008US, table 3.23)."""

    DEBUG = "debug"
    HGS_PLUS_PROFILING = "hgs-plus-profiling"
    PERFORMANCE_PROFILING = "performance-profiling"
    TELEMETRY_PROFILING = "telemetry-profiling"
    ICSSD = "icssd"
    """Defence against single-stepping by instruction counts."""
    SERVICE_TD_EXTENSION = "service-td-extension"
    LASS = "lass"
    SEPT_VE_DISABLE = "sept-ve-disable"
    """The host can't take a page away and make the guest's own exception handler believe that it never had it."""
    MIGRATABLE = "migratable"
    PKS = "pks"
    KEY_LOCKER = "key-locker"
    PROVISIONING_AGENT = "provisioning-agent"
    """The domain provisions devices for TDX Connect."""
    PERFMON = "perfmon"


TD_BITS: Final = {
    0: TdAttribute.DEBUG,
    4: TdAttribute.HGS_PLUS_PROFILING,
    5: TdAttribute.PERFORMANCE_PROFILING,
    6: TdAttribute.TELEMETRY_PROFILING,
    16: TdAttribute.ICSSD,
    17: TdAttribute.SERVICE_TD_EXTENSION,
    27: TdAttribute.LASS,
    28: TdAttribute.SEPT_VE_DISABLE,
    29: TdAttribute.MIGRATABLE,
    30: TdAttribute.PKS,
    31: TdAttribute.KEY_LOCKER,
    62: TdAttribute.PROVISIONING_AGENT,
    63: TdAttribute.PERFMON,
}
# Any of the lowest eight bits makes a domain one "under debug", and Intel calls every such domain untrusted.
_UNDER_DEBUG_BITS: Final = range(8)


class SgxAttribute(StrEnum):
    """An enclave's attribute flags that have a name (Intel SDM volume 3D, section 35.7.1)."""

    INIT = "init"
    DEBUG = "debug"
    MODE_64BIT = "mode-64bit"
    PROVISION_KEY = "provision-key"
    LAUNCH_KEY = "launch-key"
    """The key that EINITTOKENs are made with."""
    CET = "cet"
    KSS = "kss"
    """Key separation and sharing: CONFIGID, CONFIGSVN and the ISV's family and extended product."""
    AEX_NOTIFY = "aex-notify"


SGX_BITS: Final = {
    0: SgxAttribute.INIT,
    1: SgxAttribute.DEBUG,
    2: SgxAttribute.MODE_64BIT,
    4: SgxAttribute.PROVISION_KEY,
    5: SgxAttribute.LAUNCH_KEY,
    6: SgxAttribute.CET,
    7: SgxAttribute.KSS,
    10: SgxAttribute.AEX_NOTIFY,
}


class BodyType(Enum):
    """Which report a quote holds: its number in a quote of version 5, and its length in bytes."""

    ENCLAVE = (1, 384)
    TD_1_0 = (2, 584)
    TD_1_5 = (3, 648)
    TD_1_5_EXTENDED = (4, 885)

    @property
    def number(self) -> int:
        """The body type in a quote of version 5."""
        return self.value[0]

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveReport:
    """An SGX report (``sgx_report_body_t``, 384 bytes); integers are little-endian."""

    cpu_svn: bytes
    misc_select: int
    isv_ext_prod_id: bytes
    attributes: bytes
    """16 bytes: the flags, then XFRM."""
    mr_enclave: bytes
    mr_signer: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    isv_family_id: bytes
    report_data: bytes

    @classmethod
    def parse(cls, data: bytes, where: str) -> EnclaveReport:
        """Read the 384 bytes.

        :raises MalformedError: another length, or reserved bytes that aren't zero.
        """
        reader = Reader(data, where, max_bytes=BodyType.ENCLAVE.size, order="little")
        report = cls(
            cpu_svn=reader.take(16),
            misc_select=reader.integer(4),
            isv_ext_prod_id=_after_zeros(reader, 12, 16),
            attributes=reader.take(16),
            mr_enclave=reader.take(32),
            mr_signer=_after_zeros(reader, 32, 32),
            config_id=_after_zeros(reader, 32, 64),
            isv_prod_id=reader.integer(2),
            isv_svn=reader.integer(2),
            config_svn=reader.integer(2),
            isv_family_id=_after_zeros(reader, 42, 16),
            report_data=reader.take(64),
        )
        reader.end()
        return report

    @property
    def flags(self) -> int:
        """The attribute flags."""
        return int.from_bytes(self.attributes[:8], "little")

    @property
    def xfrm(self) -> int:
        """The processor features that the enclave may use, as in XCR0."""
        return int.from_bytes(self.attributes[8:], "little")

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The attributes that are set; those without a name as ``bit-9``."""
        return named_bits(self.flags, SGX_BITS)

    @property
    def under_debug(self) -> tuple[str, ...]:
        """Attributes that open the enclave to a debugger."""
        return tuple(name for name in self.attribute_names if name == SgxAttribute.DEBUG)

    @property
    def unsafe(self) -> tuple[str, ...]:
        """What no policy accepts: an enclave that isn't initialised has no measurement."""
        return () if SgxAttribute.INIT in self.attribute_names else ("not-initialised",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTd:
    """What a TD report 1.5 with extension says of service domains and of migration (``sgx_report2_body_v1_5_ex_t``)."""

    vmid: bytes
    td_id: bytes
    dev_info: bytes
    init_service_td_hash: bytes
    init_service_td_attributes: bytes
    init_cpu_svn: bytes
    init_tee_tcb_svn: bytes
    init_tee_fmspc: bytes
    cur_service_td_hash: bytes
    cur_service_td_attributes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A trust domain's report; measurements are SHA-384, 48 bytes."""

    body: BodyType
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes = b""
    """From 1.5: the TCB that runs now, where the other is the one that the domain was launched on."""
    mr_service_td: bytes = b""
    """From 1.5: service domains bound to this one; zeros for none."""
    service: ServiceTd | None = None

    @classmethod
    def parse(cls, data: bytes, where: str, body: BodyType) -> TdReport:
        """Read a body of a known type.

        :raises MalformedError: another length.
        """
        reader = Reader(data, where, max_bytes=body.size, order="little")
        fields = {name: reader.take(size) for name, size in TD_1_0_FIELDS}
        if body is not BodyType.TD_1_0:
            fields |= {name: reader.take(size) for name, size in TD_1_5_FIELDS}
        service = None
        if body is BodyType.TD_1_5_EXTENDED:
            service = ServiceTd(**{name: reader.take(size) for name, size in SERVICE_FIELDS})
        reader.end()
        return cls(body=body, service=service, **fields)

    def fields(self) -> dict[str, bytes]:
        """Return every field that this version has, by name."""
        names = TD_1_0_FIELDS if self.body is BodyType.TD_1_0 else (*TD_1_0_FIELDS, *TD_1_5_FIELDS)
        found = {name: getattr(self, name) for name, _ in names}
        return found | {name: getattr(self.service, name) for name, _ in SERVICE_FIELDS if self.service is not None}

    @property
    def flags(self) -> int:
        """The attributes as a number."""
        return int.from_bytes(self.td_attributes, "little")

    @property
    def xfam_bits(self) -> int:
        """The processor features that the domain may use, as in XCR0 and IA32_XSS."""
        return int.from_bytes(self.xfam, "little")

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The attributes that are set; those without a name as ``bit-21``."""
        return named_bits(self.flags, TD_BITS)

    @property
    def under_debug(self) -> tuple[str, ...]:
        """Attributes of the group "TD under debug"."""
        return named_bits(self.flags & sum(1 << bit for bit in _UNDER_DEBUG_BITS), TD_BITS)

    @property
    def unsafe(self) -> tuple[str, ...]:
        """What no policy accepts, because it lets somebody else into the domain or can't be judged."""
        found = [
            name
            for name in self.attribute_names
            # Bits 18 to 22 are defined and unnamed here; a bit that nobody knows may mean anything.
            if name in {TdAttribute.MIGRATABLE, TdAttribute.SERVICE_TD_EXTENSION} or name.startswith("bit-")
        ]
        if TdAttribute.SEPT_VE_DISABLE not in self.attribute_names:
            found.append(f"no-{TdAttribute.SEPT_VE_DISABLE}")
        # The two hashes stand apart from MRSERVICETD: a domain bound at launch or since is one that others may enter.
        hashes = (self.service.init_service_td_hash, self.service.cur_service_td_hash) if self.service else ()
        if any(map(any, (self.mr_service_td, *hashes))):
            found.append("service-td")
        # A report of a machine inside the domain (TD partitioning): the measurements are those of what runs it.
        if self.service and any(self.service.vmid):
            found.append("partition")
        return tuple(found)


TD_1_0_FIELDS: Final = (
    ("tee_tcb_svn", 16),
    ("mr_seam", 48),
    ("mr_signer_seam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mr_td", 48),
    ("mr_config_id", 48),
    ("mr_owner", 48),
    ("mr_owner_config", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)
TD_1_5_FIELDS: Final = (("tee_tcb_svn2", 16), ("mr_service_td", 48))
SERVICE_FIELDS: Final = (
    ("vmid", 1),
    ("td_id", 32),
    ("dev_info", 48),
    ("init_service_td_hash", 48),
    ("init_service_td_attributes", 8),
    ("init_cpu_svn", 16),
    ("init_tee_tcb_svn", 16),
    ("init_tee_fmspc", 12),
    ("cur_service_td_hash", 48),
    ("cur_service_td_attributes", 8),
)


def named_bits(flags: int, names: dict[int, TdAttribute] | dict[int, SgxAttribute]) -> tuple[str, ...]:
    """Name the bits that are set, lowest first."""
    return tuple(str(names.get(bit, f"bit-{bit}")) for bit in range(flags.bit_length()) if flags >> bit & 1)


def _after_zeros(reader: Reader, reserved: int, size: int) -> bytes:
    # A bit that means something in a later processor must not pass for one that doesn't.
    if any(reader.take(reserved)):
        raise MalformedError(f"`{reader.where}` has reserved bytes before offset {reader.at} that aren't zero")
    return reader.take(size)
