"""The TDREPORT in an HCL report beside the quote that Azure's quoting service made of it.

Only the machine that made a TDREPORT can check it, so it is never believed. It must say what the quote says all the
same: bytes that nobody compares are bytes that anybody may change.
"""

from __future__ import annotations

from typing import Final

from strongroom.attestation.azure.hcl_report import REPORT_DATA_BYTES
from strongroom.attestation.errors import RuntimeDataMismatchError
from strongroom.attestation.tdx.bodies import TdAttribute, TdReport

_REPORT_DATA: Final = 128
_TD_INFO: Final = 512
_TD_INFO_FIELDS: Final = (
    "td_attributes",
    "xfam",
    "mr_td",
    "mr_config_id",
    "mr_owner",
    "mr_owner_config",
    "rtmr0",
    "rtmr1",
    "rtmr2",
    "rtmr3",
)


class ParavisorTdReport(TdReport):
    """The report of a domain whose first code is Azure's paravisor.

    Azure starts these domains without SEPT_VE_DISABLE: the paravisor is what sees a page that the host took away, above
    the guest, and the launch measurement says which paravisor it is. Everything else that is unsafe stays so.
    """

    __slots__ = ()

    @property
    def unsafe(self) -> tuple[str, ...]:
        """See :attr:`TdReport.unsafe`."""
        return tuple(name for name in super().unsafe if name != f"no-{TdAttribute.SEPT_VE_DISABLE}")


def require_same(td_report: bytes, quoted: TdReport) -> None:
    """Compare a TDREPORT (TDX Module ABI, ``TDREPORT_STRUCT``) with what was quoted.

    :raises RuntimeDataMismatchError: they differ.
    """
    stated = td_report[_REPORT_DATA : _REPORT_DATA + REPORT_DATA_BYTES] + td_report[_TD_INFO:]
    wanted = quoted.report_data + b"".join(quoted.fields()[name] for name in _TD_INFO_FIELDS) + quoted.mr_service_td
    # What is left is reserved.
    if stated != wanted.ljust(len(stated), b"\0"):
        raise RuntimeDataMismatchError(
            "the TD report in the HCL report isn't the one that was quoted",
            remedy="collect the HCL report and the quote together",
        )
