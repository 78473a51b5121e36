"""The Linux audit log: records of one event share a serial number, and make sense together only.

``type=SYSCALL msg=audit(1364481363.243:24287): ...`` (Red Hat's Security Guide, "Understanding Audit Log Files").
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from posixpath import basename, normpath
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.detection.sensors.reading import MAX_LINE, MAX_TEXT, METHODS, Event, Read, event, unknown

MOST_OPEN: Final = 1024
"""Events whose end wasn't seen yet; the oldest one is taken as it is to make room."""
MOST_RECORDS: Final = 64
MAX_NUMBER: Final = 10
"""Digits of a user's id or a call's number."""
_HEAD: Final = re.compile(
    r"(?:node=(?P<node>\S{1,256}) )?type=(?P<type>[A-Z0-9_]{1,64}|UNKNOWN\[\d{1,8}\]) "
    r"msg=audit\((?P<serial>\d{1,12}\.\d{1,6}:\d{1,20})\): ?"
)
_PAIR: Final = re.compile(r"(?P<name>[A-Za-z][\w-]{0,63})=(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>[^\s\"']\S*))")
_MACHINES: Final = {
    "c000003e": "x86_64",
    "40000003": "i386",
    "c00000b7": "aarch64",
    "40000028": "arm",
}
"""``AUDIT_ARCH_…`` of ``linux/audit.h``. A 64-bit kernel takes its 32-bit calls, too: they mustn't be a way around."""
_X32: Final = 1 << 30
"""``__X32_SYSCALL_BIT``: calls of x86-64 with short pointers."""
_CALLS: Final[Mapping[str, Mapping[int, str]]] = {
    "x86_64": {
        2: "open",
        85: "creat",
        257: "openat",
        304: "open_by_handle_at",
        437: "openat2",
        59: "execve",
        322: "execveat",
        _X32 | 520: "execve",
        _X32 | 545: "execveat",
        _X32 | 2: "open",
        _X32 | 85: "creat",
        _X32 | 257: "openat",
        _X32 | 304: "open_by_handle_at",
        _X32 | 437: "openat2",
    },
    "i386": {
        5: "open",
        8: "creat",
        295: "openat",
        342: "open_by_handle_at",
        437: "openat2",
        11: "execve",
        358: "execveat",
    },
    "aarch64": {56: "openat", 265: "open_by_handle_at", 437: "openat2", 221: "execve", 281: "execveat"},
    "arm": {
        5: "open",
        8: "creat",
        322: "openat",
        371: "open_by_handle_at",
        437: "openat2",
        11: "execve",
        387: "execveat",
    },
}
"""Machine -> number -> name, of the calls that open files and begin programs. Enriched logs have names."""
_URING: Final = {"18": "openat", "28": "openat2"}
"""``IORING_OP_OPENAT`` and ``IORING_OP_OPENAT2``: files that are opened without a system call."""
_OPENS: Final = frozenset({"open", "creat", "openat", "openat2", "open_by_handle_at"})
_STARTS: Final = frozenset({"execve", "execveat"})
_OPENS_FROM_CWD: Final = frozenset({"open", "creat", "execve"})
_PARTS: Final = frozenset({"SYSCALL", "URINGOP", "CWD", "PATH"})
"""Records that say something together. Others, which may come in any number, take no room from them."""
_AT_FDCWD: Final = "ffffff9c"
_REFUSED: Final = frozenset({"-1", "-13", "EPERM", "EACCES"})

Record = tuple[str, dict[str, str]]


class AuditReader:
    """Joins records by their serial number.

    An event ends with its ``PROCTITLE`` record, which comes last, or its ``EOE``, which auditd writes to sockets and
    into no file; or when many others began since.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, list[Record]] = OrderedDict()
        self.forgotten = 0
        """Events that were read before their end, for want of room."""

    def __call__(self, line: bytes) -> Read:
        """Read one record; what it ends is returned.

        :raises MalformedError: not a record of the audit log.
        """
        if len(line) > MAX_LINE:
            raise MalformedError(f"a sensor's line has at most {MAX_LINE} bytes")
        told = line.decode("utf-8", "replace").strip()
        head = _HEAD.match(told)
        if head is None:
            raise MalformedError("a line isn't a record of the audit log")
        kind, serial = head["type"], f"{head['node'] or ''} {head['serial']}"
        if kind in {"EOE", "PROCTITLE"}:
            records = self._open.pop(serial, [])
            return _joined(records, head["node"] or "") if records else Read()
        if kind == "USER_LOGIN":
            # Said by a program, in one record, without an end.
            return _login(_pairs(told[head.end() :]), head["node"] or "")
        if kind not in _PARTS:
            return Read() if serial in self._open else unknown(kind)
        records = self._open.setdefault(serial, [])
        if len(records) < MOST_RECORDS:
            records.append((kind, _pairs(told[head.end() :])))
        if len(self._open) > MOST_OPEN:
            self.forgotten += 1
            oldest, held = self._open.popitem(last=False)
            return _joined(held, oldest.partition(" ")[0])
        return Read()


def _pairs(told: str) -> dict[str, str]:
    # A program's own words stand in single quotes, in the same form.
    made: dict[str, str] = {}
    for found in _PAIR.finditer(told.replace("'", " ")):
        value = found["quoted"] if found["quoted"] is not None else _unhexed(found["name"], found["bare"])
        # The first one counts: a program's text comes after what the kernel says.
        made.setdefault(found["name"], value[:MAX_TEXT])
    return made


def _unhexed(name: str, value: str) -> str:
    # What has spaces or quotes in it is written as hexadecimal, without quotes.
    if (
        name in {"name", "exe", "comm", "cwd", "acct"}
        and len(value) % 2 == 0
        and re.fullmatch(r"[0-9A-F]{2,8192}", value)
    ):
        return bytes.fromhex(value).decode("utf-8", "replace")
    return value


def _joined(records: list[Record], host: str) -> Read:
    by = dict(reversed(records))
    call = by.get("SYSCALL") or by.get("URINGOP")
    if call is None:
        return unknown(records[0][0])
    name = _name_of(call)
    if not name:
        return unknown(f"arch {call.get('arch', '')}")
    cwd = by.get("CWD", {}).get("cwd", "")
    paths = [_absolute(call, name, cwd, pairs) for kind, pairs in records if kind == "PATH"]
    return _called(call, name, paths, host)


def _name_of(call: Mapping[str, str]) -> str:
    """Return what a call is called: its number where it is none of ours; empty where its machine isn't known."""
    if "uring_op" in call:
        return _URING.get(call["uring_op"], f"uring {call['uring_op']}")
    number = call.get("syscall", "")
    if not (number.isascii() and number.isdecimal() and len(number) <= MAX_NUMBER):
        return number or "without a number"
    known = _CALLS.get(_MACHINES.get(call.get("arch", ""), call.get("arch", "")))
    return "" if known is None else known.get(int(number), number)


def _login(said: Mapping[str, str], host: str) -> Read:
    if not said.get("acct"):
        return unknown("USER_LOGIN")
    person, client = said["acct"], said.get("addr", "").strip("?")
    if said.get("res") in {"success", "1"}:
        exe = said.get("exe", "")
        method = METHODS.get(basename(exe), exe)
        return _one(event("host:login:opened", "auditd", host=host, person=person, method=method))
    return _one(event("identity:login:failed", "auditd", host=host, person=person, client=client, cause="auditd"))


def _called(call: Mapping[str, str], name: str, paths: list[dict[str, str]], host: str) -> Read:
    uid = call.get("uid", "")
    user = int(uid) if uid.isascii() and uid.isdecimal() and len(uid) <= MAX_NUMBER else None
    if call.get("success") == "no" and call.get("exit") not in _REFUSED:
        # Nothing was there. Whoever was refused what is there wanted it, and is told.
        return unknown(f"syscall {call.get('syscall', name)} that failed")
    if name in _OPENS:
        events = tuple(
            event("host:file:opened", "auditd", host=host, path=path["name"], exe=call.get("exe", ""), uid=user)
            for path in paths
            if path.get("name") and path.get("nametype", "NORMAL") in {"NORMAL", "UNKNOWN"}
        )
        return Read(events=events) if events else unknown("open without a path")
    if name in _STARTS and call.get("exe"):
        return _one(event("host:process:started", "auditd", host=host, exe=call["exe"], uid=user))
    return unknown(f"syscall {name}")


def _absolute(call: Mapping[str, str], opened_by: str, cwd: str, path: dict[str, str]) -> dict[str, str]:
    """Return a path's record with its whole name, where records say what it is relative to. Links stay as they are."""
    name = path.get("name", "")
    if not name:
        return path
    if name.startswith("/"):
        # As a program wrote it: by `//weights/./x` it mustn't open what nobody knows by that name.
        return {**path, "name": normpath("/" + name.lstrip("/"))}
    if not cwd.startswith("/") or (opened_by not in _OPENS_FROM_CWD and call.get("a0") != _AT_FDCWD):
        return path
    return {**path, "name": normpath(f"{cwd}/{name}")[:MAX_TEXT]}


def _one(made: Event) -> Read:
    return Read(events=(made,))
