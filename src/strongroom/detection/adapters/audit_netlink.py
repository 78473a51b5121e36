"""The kernel's audit records as they are made, without auditd: the netlink multicast group of readers (Linux 3.16).

What comes is what auditd writes, but for the record's type, which is a number here. Needs CAP_AUDIT_READ, in the first
user namespace; the rules that make records are whoever's configures auditing (``audit=1``, ``auditctl``). A reader that
is too slow loses records, and is told so by the kernel: nothing else is slowed down by it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

from strongroom.core.errors import UnavailableError

_NETLINK_AUDIT: Final = 9
_READLOG: Final = 1
"""``AUDIT_NLGRP_READLOG`` as a mask of groups."""
_HEAD: Final = struct.Struct("=IHHII")
_KERNEL: Final = 0
MAX_RECORD: Final = 16384
"""Bytes; the kernel makes them of at most 8,970."""
_ROOM: Final = 4 << 20
_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        1100: "USER_AUTH",
        1101: "USER_ACCT",
        1104: "CRED_DISP",
        1105: "USER_START",
        1106: "USER_END",
        1107: "USER_AVC",
        1112: "USER_LOGIN",
        1113: "USER_LOGOUT",
        1300: "SYSCALL",
        1302: "PATH",
        1305: "CONFIG_CHANGE",
        1306: "SOCKADDR",
        1307: "CWD",
        1309: "EXECVE",
        1320: "EOE",
        1327: "PROCTITLE",
        1336: "URINGOP",
    }
)
"""Of ``linux/audit.h`` and libaudit: those that our reader knows, and those that come with them."""


class AuditUnavailableError(UnavailableError):
    """This kernel, or this process's rights, give no audit records."""

    code = "audit-unavailable"


class AuditRecords:
    """The open group. It is non-blocking: wait for :meth:`fileno` to be readable.

    :raises AuditUnavailableError: the kernel has no such group, or doesn't let us in.
    """

    def __init__(self) -> None:
        self.lost = 0
        """How often the kernel had no room for what we hadn't read yet."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_AUDIT)
        except OSError as error:
            raise unavailable(error) from None
        try:
            self._socket.settimeout(0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
            self._socket.bind((0, _READLOG))
        except OSError as error:
            self._socket.close()
            raise unavailable(error) from None

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def read(self, most: int) -> tuple[bytes, ...]:
        """Return the records that are there, at most so many, each as a line of auditd's."""
        found: list[bytes] = []
        while len(found) < most:
            try:
                data, sender = self._socket.recvfrom(MAX_RECORD)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            # Any process may send to a netlink socket; the kernel's own port is 0.
            if sender[0] == _KERNEL and len(data) >= _HEAD.size:
                found.append(record_line(_HEAD.unpack_from(data)[1], data[_HEAD.size :]))
        return tuple(found)

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def record_line(kind: int, text: bytes) -> bytes:
    """Return a record in the form that auditd writes it: ``type=SYSCALL msg=audit(…): …``, one line."""
    named = _NAMES.get(kind) or f"UNKNOWN[{kind}]"
    plain = text.rstrip(b"\0\n").replace(b"\n", b" ")
    return b"type=" + named.encode() + b" msg=" + plain


def unavailable(error: OSError) -> AuditUnavailableError:
    """Return the refusal that an error of the socket's is."""
    return AuditUnavailableError(
        f"the kernel's audit records can't be read: {os.strerror(error.errno or 0)}",
        remedy="run with CAP_AUDIT_READ outside containers, on a kernel with auditing",
    )
