"""Intel's verdict on a platform's trusted computing base (TCB)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.attestation.tdx.pck import Pck


class TcbStatus(StrEnum):
    """Intel's words, worst of platform, TDX module and quoting enclave; ``Revoked`` never comes this far."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbVerdict:
    """What genuine collateral says of a platform."""

    status: TcbStatus | None
    """None where no collateral was there to judge by. No policy takes that."""
    advisories: tuple[str, ...]
    """Every security advisory that applies, sorted: ``INTEL-SA-00615``; none where nothing is known."""
    evaluation_number: int
    """Intel's count of TCB recoveries; the lower of the TCB information's and the quoting enclave identity's."""
    tcb_date: str
    """When the level that the platform is at became known to have its advisories: RFC 3339."""
    pck: Pck
    wanted_collateral: str = ""
    """Where there was none: what to import."""

    @property
    def said(self) -> str:
        """The status in words."""
        return self.status or f"not known: no {self.wanted_collateral} was imported"


def without_collateral(pck: Pck, tee: str) -> TcbVerdict:
    """Return the verdict on a platform whose quote is genuine and whose TCB nothing is known of."""
    return TcbVerdict(
        status=None,
        advisories=(),
        evaluation_number=0,
        tcb_date="",
        pck=pck,
        wanted_collateral=f"{tee} collateral for `{pck.collateral_name}`",
    )
