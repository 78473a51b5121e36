"""What is wanted of a quote of an Intel trust domain.

Debug, migration, service domains and a missing SEPT_VE_DISABLE are refused without a rule for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.policies.allowed import ANYTHING, Allowed
from strongroom.attestation.policies.intel import PlatformRules, bits, names
from strongroom.attestation.tdx.bodies import TdAttribute
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

_SHA384: Final = re.compile(r"[0-9a-f]{96}")
_SVN_BYTES: Final = 16
_XFAM_BYTES: Final = 8
ZEROS: Final = "00" * 48
"""MRSIGNERSEAM of the TDX modules that Intel signs for production; a register that nobody filled."""
# x87, SSE, AVX, AVX-512, PT off, PKRU, CET, AMX: what Linux guests get; the rest of XCR0 and IA32_XSS stays shut.
_USUAL_XFAM: Final = 0x0006_1AE7
_OPTIONAL: Final = frozenset(
    {
        TdAttribute.ICSSD,
        TdAttribute.LASS,
        TdAttribute.PKS,
        TdAttribute.KEY_LOCKER,
        TdAttribute.PROVISIONING_AGENT,
        TdAttribute.PERFMON,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxPolicy:
    """Rules for trust domains. MRTD and RTMR0 to RTMR2 are the image's and are compared with reference values.

    :raises MalformedError: an attribute that no rule can allow.
    """

    platform: PlatformRules
    tee_tcb_svn: bytes
    """Floor of each of the 16 security versions; byte 0 is the TDX module's minor version, byte 1 its major one."""
    attributes: tuple[TdAttribute, ...]
    """Attributes that a domain may have besides SEPT_VE_DISABLE: ``icssd``, ``lass``, ``pks``, ``key-locker``,
    ``provisioning-agent``, ``perfmon``."""
    xfam: int
    """Processor features that a domain may use, as a mask over XFAM."""
    mr_signer_seam: Allowed
    """Signers of the TDX module: 96 hex digits, zeros for Intel's production key."""
    mr_seam: Allowed
    """Measurements of the TDX module."""
    mr_config_id: Allowed
    mr_owner: Allowed
    mr_owner_config: Allowed

    def __post_init__(self) -> None:
        if len(self.tee_tcb_svn) != _SVN_BYTES or not set(self.attributes) <= _OPTIONAL:
            raise MalformedError(
                f"a policy may allow these attributes of trust domains: {', '.join(sorted(_OPTIONAL))}"
            )

    @classmethod
    def read(cls, fields: Fields) -> TdxPolicy:
        """Read the object.

        :raises MalformedError: a field is missing, unknown or out of its range.
        """
        with fields.child("platform") as platform:
            rules = PlatformRules.read(platform)
        return cls(
            platform=rules,
            tee_tcb_svn=bits(fields, "tee_tcb_svn", _SVN_BYTES).to_bytes(_SVN_BYTES, "big"),
            attributes=names(fields, "attributes", TdAttribute),
            xfam=bits(fields, "xfam", _XFAM_BYTES),
            mr_signer_seam=Allowed.read(fields, "mr_signer_seam", _SHA384),
            mr_seam=Allowed.read(fields, "mr_seam", _SHA384),
            mr_config_id=Allowed.read(fields, "mr_config_id", _SHA384),
            mr_owner=Allowed.read(fields, "mr_owner", _SHA384),
            mr_owner_config=Allowed.read(fields, "mr_owner_config", _SHA384),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object; ``tee_tcb_svn`` in the quote's order of bytes, ``xfam`` as a number."""
        return {
            "platform": self.platform.to_json(),
            "tee_tcb_svn": self.tee_tcb_svn.hex(),
            "attributes": [name.value for name in self.attributes],
            "xfam": f"{self.xfam:0{2 * _XFAM_BYTES}x}",
            "mr_signer_seam": self.mr_signer_seam.to_json(),
            "mr_seam": self.mr_seam.to_json(),
            "mr_config_id": self.mr_config_id.to_json(),
            "mr_owner": self.mr_owner.to_json(),
            "mr_owner_config": self.mr_owner_config.to_json(),
        }

    @classmethod
    def strictest(cls) -> TdxPolicy:
        """Return the tightest rules that current hardware meets, once its platforms and modules are listed.

        Intel's TCB information says which TDX modules are good, so the module's measurement is open.
        """
        return cls(
            platform=PlatformRules.strictest(),
            # The least that Intel's TCB information of evaluation number 20 calls up to date, over modules 1.5 and 2.0.
            tee_tcb_svn=bytes((5, 1, 3)) + bytes(13),
            attributes=(),
            xfam=_USUAL_XFAM,
            mr_signer_seam=Allowed((ZEROS,)),
            mr_seam=ANYTHING,
            mr_config_id=Allowed((ZEROS,)),
            mr_owner=Allowed((ZEROS,)),
            mr_owner_config=Allowed((ZEROS,)),
        )
