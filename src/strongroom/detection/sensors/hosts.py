"""Falco, Tetragon, osquery and Wazuh: JSON, an object a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.detection.sensors.reading import Event, Read, child, event, number, read_object, text, unknown

_OPENS: Final = frozenset({"open", "openat", "openat2"})
_STARTS: Final = frozenset({"execve", "execveat"})


def read_falco(line: bytes) -> Read:
    """Read a line of Falco with ``json_output`` (falco.org/docs/outputs): by its event type, not its rule's words.

    :raises MalformedError: not a line of Falco's.
    """
    told = read_object(line)
    fields, host = child(told, "output_fields"), text(told, "hostname")
    kind = text(fields, "evt.type")
    exe, uid = text(fields, "proc.exepath") or text(fields, "proc.name"), number(fields, "user.uid")
    if fields.get("evt.failed") is True and text(fields, "evt.res") not in {"EPERM", "EACCES"}:
        return unknown(f"{kind} that failed")
    if kind in _OPENS and text(fields, "fd.name"):
        return _one(event("host:file:opened", "falco", host=host, path=text(fields, "fd.name"), exe=exe, uid=uid))
    if kind in _STARTS and exe:
        parent = text(fields, "proc.pname")
        return _one(event("host:process:started", "falco", host=host, exe=exe, parent=parent, uid=uid))
    return unknown(kind or text(told, "rule"))


def read_tetragon(line: bytes) -> Read:
    """Read a line of Tetragon's JSON export (tetragon.io/docs/reference/grpc-api): ``process_exec``, file hooks.

    :raises MalformedError: not a line of Tetragon's.
    """
    told = read_object(line)
    host = text(told, "node_name")
    if "process_exec" in told:
        process = child(told, "process_exec", "process")
        parent = text(child(told, "process_exec", "parent"), "binary")
        exe = text(process, "binary")
        uid = number(process, "uid")
        made = event("host:process:started", "tetragon", host=host, exe=exe, parent=parent, uid=uid)
        return _one(made) if exe else unknown("process_exec")
    hook = child(told, "process_kprobe") or child(told, "process_lsm")
    if not hook:
        return unknown(next((name for name in told if name.startswith("process_")), "no process"))
    name = text(hook, "function_name")
    path = _tetragon_path(hook)
    if name in {"security_file_permission", "security_file_open", "file_open", "fd_install"} and path:
        process = child(hook, "process")
        exe, uid = text(process, "binary"), number(process, "uid")
        return _one(event("host:file:opened", "tetragon", host=host, path=path, exe=exe, uid=uid))
    return unknown(name)


def read_osquery(line: bytes) -> Read:
    """Read a line of osquery's results log (osquery.readthedocs.io): event tables, rows that were added.

    :raises MalformedError: not a line of osquery's.
    """
    told = read_object(line)
    query, columns, host = (
        text(told, "name"),
        child(told, "columns"),
        text(told, "hostIdentifier") or text(told, "hostname"),
    )
    table = query.rpartition("_query_")[2] or query
    if text(told, "action") != "added" or not columns:
        return unknown(f"{query}: {text(told, 'action') or 'no rows'}")
    if table.endswith("process_events") and text(columns, "path"):
        exe, uid = text(columns, "path"), number(columns, "uid")
        return _one(event("host:process:started", "osquery", host=host, exe=exe, uid=uid))
    if table.endswith("file_events") and text(columns, "action") == "OPENED":
        return _one(event("host:file:opened", "osquery", host=host, path=text(columns, "target_path")))
    if table.endswith("file_events") and text(columns, "action") in {"UPDATED", "ATTRIBUTES_MODIFIED", "DELETED"}:
        seen = text(columns, "sha256")
        return _one(event("host:file:changed", "osquery", host=host, path=text(columns, "target_path"), seen=seen))
    if table.endswith("hardware_events") and text(columns, "action") == "add":
        device = text(columns, "model") or text(columns, "path")
        return _one(event("host:device:added", "osquery", host=host, kind=text(columns, "type"), device=device))
    return unknown(table)


def read_wazuh(line: bytes) -> Read:
    """Read a line of Wazuh's ``alerts.json`` (documentation.wazuh.com): file integrity, and logins by rule group.

    :raises MalformedError: not a line of Wazuh's.
    """
    told = read_object(line)
    rule, data, host = child(told, "rule"), child(told, "data"), text(child(told, "agent"), "name")
    groups = rule.get("groups")
    groups = frozenset(group for group in groups if isinstance(group, str)) if isinstance(groups, list) else frozenset()
    check = child(told, "syscheck")
    if check and text(check, "event") in {"modified", "deleted"}:
        expected, seen = text(check, "sha256_before"), text(check, "sha256_after")
        path = text(check, "path")
        return _one(event("host:file:changed", "wazuh", host=host, path=path, expected=expected, seen=seen))
    person, client = text(data, "dstuser") or text(data, "srcuser"), text(data, "srcip")
    if "authentication_failed" in groups and person:
        cause = f"wazuh-{text(rule, 'id')}"
        return _one(event("identity:login:failed", "wazuh", host=host, person=person, client=client, cause=cause))
    if "authentication_success" in groups and person:
        return _one(event("host:login:opened", "wazuh", host=host, person=person, method="wazuh"))
    return unknown(f"rule {text(rule, 'id')}")


def _tetragon_path(hook: Mapping[str, object]) -> str:
    arguments = hook.get("args")
    for argument in arguments if isinstance(arguments, list) else ():
        if isinstance(argument, dict):
            found = text(child(argument, "file_arg"), "path") or text(child(argument, "path_arg"), "path")
            if found:
                return found
    return ""


def _one(made: Event) -> Read:
    return Read(events=(made,))
