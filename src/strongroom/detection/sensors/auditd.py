"""The Linux audit log: records of one event share a serial number, and make sense together only.

``type=SYSCALL msg=audit(1364481363.243:24287): ...`` (Red Hat's Security Guide, "Understanding Audit Log Files").
"""

from __future__ import annotations

import re
from collections import OrderedDict
from posixpath import normpath
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.detection.sensors.reading import MAX_LINE, MAX_TEXT, Event, Read, event, unknown

MOST_OPEN: Final = 1024
"""Events whose end wasn't seen yet; the oldest one is taken as it is to make room."""
MOST_RECORDS: Final = 64
_HEAD: Final = re.compile(
    r"(?:node=(?P<node>\S{1,256}) )?type=(?P<type>[A-Z0-9_]{1,64}|UNKNOWN\[\d{1,8}\]) "
    r"msg=audit\((?P<serial>\d{1,12}\.\d{1,6}:\d{1,20})\): ?"
)
_PAIR: Final = re.compile(r"(?P<name>[A-Za-z][\w-]{0,63})=(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>[^\s\"']\S*))")
_OPENS: Final = frozenset({"2", "257", "437", "open", "openat", "openat2"})
"""Of x86-64, or in words where the log is enriched."""
_STARTS: Final = frozenset({"59", "322", "execve", "execveat"})
_OPENS_FROM_CWD: Final = frozenset({"2", "open", "59", "execve"})
_AT_FDCWD: Final = "ffffff9c"
_REFUSED: Final = frozenset({"-1", "-13", "EPERM", "EACCES"})
_X86_64: Final = "c000003e"

Record = tuple[str, dict[str, str]]


class AuditReader:
    """Joins records by their serial number. An event ends with its ``EOE`` record, or when many others began since."""

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
        if kind == "EOE":
            return _joined(self._open.pop(serial, []), head["node"] or "")
        records = self._open.setdefault(serial, [])
        if len(records) < MOST_RECORDS:
            records.append((kind, _pairs(told[head.end() :])))
        if kind.startswith("USER_"):
            # Said by a program, in one record, without an end.
            return _joined(self._open.pop(serial), head["node"] or "")
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
    if name in {"name", "exe", "comm", "cwd"} and len(value) % 2 == 0 and re.fullmatch(r"[0-9A-F]{2,8192}", value):
        return bytes.fromhex(value).decode("utf-8", "replace")
    return value


def _joined(records: list[Record], host: str) -> Read:
    if not records:
        return unknown("EOE")
    by = dict(reversed(records))
    call = by.get("SYSCALL")
    if call is not None:
        cwd = by.get("CWD", {}).get("cwd", "")
        return _called(call, [_absolute(call, cwd, pairs) for kind, pairs in records if kind == "PATH"], host)
    said = by.get("USER_LOGIN")
    if said is not None and said.get("acct"):
        person, client = said["acct"], said.get("addr", "").strip("?")
        if said.get("res") in {"success", "1"}:
            return _one(event("host:login:opened", "auditd", host=host, person=person, method=said.get("exe", "")))
        failed = event("identity:login:failed", "auditd", host=host, person=person, client=client, cause="auditd")
        return _one(failed)
    return unknown(records[0][0])


def _called(call: dict[str, str], paths: list[dict[str, str]], host: str) -> Read:
    number, uid = call.get("syscall", ""), call.get("uid", "")
    user = int(uid) if uid.isascii() and uid.isdecimal() and len(uid) <= 10 else None
    if number.isdecimal() and call.get("arch") not in {_X86_64, "x86_64"}:
        return unknown(f"arch {call.get('arch', '')}")
    if call.get("success") == "no" and call.get("exit") not in _REFUSED:
        # Nothing was there. Whoever was refused what is there wanted it, and is told.
        return unknown(f"syscall {number} that failed")
    if number in _OPENS:
        events = tuple(
            event("host:file:opened", "auditd", host=host, path=path["name"], exe=call.get("exe", ""), uid=user)
            for path in paths
            if path.get("name") and path.get("nametype", "NORMAL") in {"NORMAL", "UNKNOWN"}
        )
        return Read(events=events) if events else unknown("open without a path")
    if number in _STARTS and call.get("exe"):
        return _one(event("host:process:started", "auditd", host=host, exe=call["exe"], uid=user))
    return unknown(f"syscall {number}")


def _absolute(call: dict[str, str], cwd: str, path: dict[str, str]) -> dict[str, str]:
    """Return a path's record with its whole name, where records say what it is relative to. Links stay as they are."""
    name = path.get("name", "")
    if not name or name.startswith("/") or not cwd.startswith("/"):
        return path
    if call.get("syscall") not in _OPENS_FROM_CWD and call.get("a0") != _AT_FDCWD:
        return path
    return {**path, "name": normpath(f"{cwd}/{name}")[:MAX_TEXT]}


def _one(made: Event) -> Read:
    return Read(events=(made,))
