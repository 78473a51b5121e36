"""Falco, Tetragon, osquery and Wazuh: JSON, an object a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.detection.sensors.reading import METHODS, Event, Read, child, event, number, read_object, text, unknown

_OPENS: Final = frozenset({"open", "creat", "openat", "openat2", "open_by_handle_at"})
_STARTS: Final = frozenset({"execve", "execveat"})
_EVENT_TABLE: Final = frozenset({"syscall", "ntime", "auid", "eid", "event_type"})
"""Columns of osquery's tables of events, of which it has those that begin with a program: running ones have none."""
_FILE_HOOKS: Final = frozenset(
    {"security_file_permission", "security_file_open", "security_mmap_file", "file_open", "mmap_file", "fd_install"}
)
"""What Tetragon's policies about files hook. A file that is mapped is read by no call that the first one sees."""
_CHANGES: Final = frozenset({"UPDATED", "ATTRIBUTES_MODIFIED", "DELETED", "MOVED_TO", "MOVED_FROM"})
"""What becomes of a file in osquery's words; most programs replace one by moving another there."""
_UNCHANGED: Final = frozenset({"inode", "mtime"})
"""Attributes whose change leaves a file's bytes and rights as they were."""
_NO_LOGINS: Final = frozenset({"cron", "crond", "su", "sudo", "systemd", "polkitd", "pkexec"})
"""Programs whose PAM sessions Wazuh's rules call logins. Whoever is in a session already, or a timer, opens them."""
_FAILED: Final = frozenset({"authentication_failed", "authentication_failures"})
"""Groups of Wazuh's rules. The second one's replace the last of several failures of somebody: it isn't told twice."""
_AFTER_FAILURES: Final = "40112"
"""Wazuh's rule for a login after failures. It stands in the place of the login's own, without its group."""


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
    if name in _FILE_HOOKS and path:
        process = child(hook, "process")
        exe, uid = text(process, "binary"), number(process, "uid")
        return _one(event("host:file:opened", "tetragon", host=host, path=path, exe=exe, uid=uid))
    return unknown(name)


def read_osquery(line: bytes) -> Read:
    """Read a line of osquery's results log (osquery.readthedocs.io): event tables, rows that were added.

    A line has one row, or in the batch format all that a query found. A query is called what its pack's author liked,
    so a row's columns tell its table, and its name where they don't.

    :raises MalformedError: not a line of osquery's.
    """
    told = read_object(line)
    query, host = text(told, "name"), text(told, "hostIdentifier") or text(told, "hostname")
    batch = child(told, "diffResults").get("added")
    if isinstance(batch, list):
        reads = [_osquery_row(query, row, host) for row in batch if isinstance(row, dict)]
        events = tuple(one for read in reads for one in read.events)
        strange = next((read.unknown for read in reads if read.unknown), "")
        return Read(events=events, unknown=strange) if events or strange else unknown(f"{query}: no rows")
    columns = child(told, "columns")
    if text(told, "action") != "added" or not columns:
        return unknown(f"{query}: {text(told, 'action') or 'no rows'}")
    return _osquery_row(query, columns, host)


def _osquery_row(query: str, columns: Mapping[str, object], host: str) -> Read:
    table, action = query.rpartition("_query_")[2] or query, text(columns, "action")
    if action and (text(columns, "target_path") or table.endswith("file_events")):
        return _osquery_file(columns, host)
    # Tables of sockets and of logins have a program's path too, and no command line.
    is_event = "cmdline" in columns and not _EVENT_TABLE.isdisjoint(columns)
    if text(columns, "path") and (is_event or table.endswith("process_events")):
        return _osquery_process(columns, host)
    if table.endswith("hardware_events") and action == "add":
        device = text(columns, "model") or text(columns, "path")
        return _one(event("host:device:added", "osquery", host=host, kind=text(columns, "type"), device=device))
    return unknown(table)


def _osquery_file(columns: Mapping[str, object], host: str) -> Read:
    action, path = text(columns, "action"), text(columns, "target_path")
    if action == "OPENED":
        return _one(event("host:file:opened", "osquery", host=host, path=path))
    if action in _CHANGES:
        return _one(event("host:file:changed", "osquery", host=host, path=path, seen=text(columns, "sha256")))
    return unknown(f"a file that was {action}")


def _osquery_process(columns: Mapping[str, object], host: str) -> Read:
    call = text(columns, "syscall") or text(columns, "event_type") or "exec"
    if not call.startswith("exec"):
        return unknown(call)
    if number(columns, "exit_code") and "probe_error" in columns:
        # Of the table by BPF that is what the call returned; of others, how the program ended.
        return unknown(f"{call} that failed")
    return _one(
        event("host:process:started", "osquery", host=host, exe=text(columns, "path"), uid=number(columns, "uid"))
    )


def read_wazuh(line: bytes) -> Read:
    """Read a line of Wazuh's ``alerts.json`` (documentation.wazuh.com): file integrity, and logins by rule group.

    :raises MalformedError: not a line of Wazuh's.
    """
    told = read_object(line)
    rule, host = child(told, "rule"), text(child(told, "agent"), "name")
    check = child(told, "syscheck")
    if check and text(check, "event") in {"modified", "deleted"}:
        return _wazuh_file(check, host)
    data, groups = child(told, "data"), _texts(rule, "groups")
    person, client = text(data, "dstuser") or text(data, "srcuser"), text(data, "srcip")
    if person and groups & _FAILED:
        cause = f"wazuh-{text(rule, 'id')}"
        return _one(event("identity:login:failed", "wazuh", host=host, person=person, client=client, cause=cause))
    program = text(child(told, "predecoder"), "program_name") or text(child(told, "decoder"), "name")
    opened = "authentication_success" in groups or text(rule, "id") == _AFTER_FAILURES
    if person and opened and program.lower() not in _NO_LOGINS:
        method = METHODS.get(program, "wazuh")
        return _one(event("host:login:opened", "wazuh", host=host, person=person, method=method))
    return unknown(f"rule {text(rule, 'id')}")


def _wazuh_file(check: Mapping[str, object], host: str) -> Read:
    changed = _texts(check, "changed_attributes")
    # Where Wazuh was told to take no digests, a time is all that tells of other bytes.
    compared = any(text(check, f"{name}_after") for name in ("sha256", "sha1", "md5"))
    if text(check, "event") == "modified" and compared and changed and changed <= _UNCHANGED:
        return unknown(f"a change of {', '.join(sorted(changed))} alone")
    expected, seen = text(check, "sha256_before"), text(check, "sha256_after")
    made = event("host:file:changed", "wazuh", host=host, path=text(check, "path"), expected=expected, seen=seen)
    return _one(made)


def _texts(value: Mapping[str, object], name: str) -> frozenset[str]:
    found = value.get(name)
    return frozenset(one for one in found if isinstance(one, str)) if isinstance(found, list) else frozenset()


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
