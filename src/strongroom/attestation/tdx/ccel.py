"""The event log of a confidential guest (UEFI 2.10 section 38.4, ACPI table CCEL) against a quote's RTMRs.

The log is a TCG crypto-agile one whose register is a measurement register's index: 0 for MRTD, 1 to 4 for RTMR0 to
RTMR3. Firmware chose it from the PCR that it would have extended: 1 and 7 become RTMR0, 2 to 6 RTMR1, 8 to 15 RTMR2.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final

from strongroom.attestation.errors import EventLogMismatchError
from strongroom.attestation.tdx.bodies import TdReport
from strongroom.attestation.tpm.event_log import EventLog, replay
from strongroom.core.errors import MalformedError
from strongroom.tpm import wire

RTMRS: Final = 4
_ZERO: Final = bytes(48)


def replay_rtmrs(log: EventLog) -> tuple[bytes, bytes, bytes, bytes]:
    """Return RTMR0 to RTMR3 as the log's end leaves them; one that it says nothing of is zeros.

    :raises MalformedError: no SHA-384 bank, or an event for a register that a trust domain doesn't have.
    """
    if any(event.extended and not 1 <= event.register <= RTMRS for event in log.events):
        raise MalformedError("an event in the log extends something other than RTMR0 to RTMR3")
    values = replay(log, wire.ALG_SHA384)
    first, second, third, fourth = (values.get(number + 1, _ZERO) for number in range(RTMRS))
    return first, second, third, fourth


def require_replay(log: EventLog, report: TdReport, registers: Iterable[int]) -> None:
    """Check that a log gives the registers that were quoted; only then do its digests count for them.

    RTMR3 is the running system's: firmware's log ends before it is extended.

    :raises EventLogMismatchError: another value in one of ``registers`` (0 to 3).
    :raises MalformedError: as in :func:`replay_rtmrs`.
    """
    quoted = (report.rtmr0, report.rtmr1, report.rtmr2, report.rtmr3)
    replayed = replay_rtmrs(log)
    for number in registers:
        if not hmac.compare_digest(quoted[number], replayed[number]):
            raise EventLogMismatchError(
                f"the event log doesn't replay to the quoted RTMR{number}",
                seen=quoted[number].hex(),
                wanted=replayed[number].hex(),
            )
