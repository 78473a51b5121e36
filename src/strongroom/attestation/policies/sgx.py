"""What is wanted of a quote of an Intel SGX enclave. Debug is refused without a rule for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.policies.allowed import NOTHING, Allowed
from strongroom.attestation.policies.intel import PlatformRules, bits, names
from strongroom.attestation.tdx.bodies import SgxAttribute
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CONFIG_ID: Final = re.compile(r"[0-9a-f]{128}")
_PRODUCT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_SVN_MOST: Final = 0xFFFF
_XFRM_BYTES: Final = 8
_MISC_BYTES: Final = 4
# x87, SSE, AVX, AVX-512, PKRU, AMX.
_USUAL_XFRM: Final = 0x0006_02E7
_EXINFO: Final = 0x1
_OPTIONAL: Final = frozenset(set(SgxAttribute) - {SgxAttribute.DEBUG, SgxAttribute.INIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxPolicy:
    """Rules for enclaves. MRENCLAVE is the image's and is compared with reference values.

    :raises MalformedError: an attribute that no rule can allow.
    """

    platform: PlatformRules
    attributes: tuple[SgxAttribute, ...]
    """Attributes that an enclave may have besides INIT: ``mode-64bit``, ``cet``, ``kss``, ``aex-notify``, and, for
    Intel's own enclaves only, ``provision-key`` and ``launch-key``."""
    xfrm: int
    """Processor features that an enclave may use, as a mask."""
    misc_select: int
    """Extra state that may be saved when the enclave is left, as a mask."""
    mr_signers: Allowed
    """SHA-256 of the keys that may have signed the enclave: 64 hex digits each."""
    isv_prod_ids: Allowed
    """The signer's products, as decimal text."""
    isv_svn: int
    """Floor of the product's security version."""
    config_ids: Allowed
    """CONFIGID of enclaves with key separation and sharing: 128 hex digits, zeros for none."""

    def __post_init__(self) -> None:
        if not set(self.attributes) <= _OPTIONAL:
            raise MalformedError(f"a policy may allow these attributes of enclaves: {', '.join(sorted(_OPTIONAL))}")

    @classmethod
    def read(cls, fields: Fields) -> SgxPolicy:
        """Read the object.

        :raises MalformedError: a field is missing, unknown or out of its range.
        """
        with fields.child("platform") as platform:
            rules = PlatformRules.read(platform)
        return cls(
            platform=rules,
            attributes=names(fields, "attributes", SgxAttribute),
            xfrm=bits(fields, "xfrm", _XFRM_BYTES),
            misc_select=bits(fields, "misc_select", _MISC_BYTES),
            mr_signers=Allowed.read(fields, "mr_signers", _SHA256),
            isv_prod_ids=Allowed.read(fields, "isv_prod_ids", _PRODUCT),
            isv_svn=fields.integer("isv_svn", most=_SVN_MOST),
            config_ids=Allowed.read(fields, "config_ids", _CONFIG_ID),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object; masks as numbers in hex."""
        return {
            "platform": self.platform.to_json(),
            "attributes": [name.value for name in self.attributes],
            "xfrm": f"{self.xfrm:0{2 * _XFRM_BYTES}x}",
            "misc_select": f"{self.misc_select:0{2 * _MISC_BYTES}x}",
            "mr_signers": self.mr_signers.to_json(),
            "isv_prod_ids": self.isv_prod_ids.to_json(),
            "isv_svn": self.isv_svn,
            "config_ids": self.config_ids.to_json(),
        }

    @classmethod
    def strictest(cls) -> SgxPolicy:
        """Return the tightest rules: signers, products and platforms must each be listed, and none is yet."""
        return cls(
            platform=PlatformRules.strictest(),
            attributes=(SgxAttribute.MODE_64BIT,),
            xfrm=_USUAL_XFRM,
            misc_select=_EXINFO,
            mr_signers=NOTHING,
            isv_prod_ids=NOTHING,
            isv_svn=1,
            config_ids=Allowed(("00" * 64,)),
        )
