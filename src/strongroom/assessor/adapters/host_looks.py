"""What a host's kernel, packages, accounts and network say. Nothing is changed, and nothing is guessed.

A fact that can't be read, for lack of rights or because this isn't Linux as known here, is left out: a check that asks
for it then sees nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from strongroom.assessor.adapters.host import Host
from strongroom.assessor.collecting import Look
from strongroom.assurance.observations import Fact

Facts = dict[str, Fact]
_DAY: Final = 86400
_PORTABLE: Final = frozenset({"8", "9", "10", "11", "14", "30", "31", "32"})
"""SMBIOS chassis types of laptops, tablets and hand-helds."""
_REDUCED: Final = frozenset({"bottlerocket", "chromeos", "cos", "fedora-coreos", "flatcar", "qubes", "talos"})
_AGENTS: Final = frozenset(
    [
        "cbagentd",
        "clamd",
        "ds_agent",
        "elastic-agent",
        "elastic-endpoint",
        "falco",
        "falcon-sensor",
        "mdatp",
        "osqueryd",
        "ossec-agentd",
        "s1-agent",
        "sentinelone-agent",
        "tetragon",
        "wazuh-agentd",
        "wdavdaemon",
    ]
)
_CLEARTEXT: Final = frozenset(
    {20, 21, 23, 69, 80, 110, 111, 143, 389, 512, 513, 514, 873, 2049, 5900, 6379, 8080, 11211}
)
"""Ports whose protocols are in the clear unless somebody took care."""
_FEATURES: Final = ("nx", "smep", "smap")
_FIRST_USER: Final = 1000
_NOBODY: Final = 65534
_BITS_PER_CHARACTER: Final = 4
"""What a character of a password that people choose is worth, by a rule of length alone."""
_SECURE_BOOT: Final = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_LISTEN: Final = "0A"


def _updates(host: Host) -> Facts | None:
    if not (host.root / "var/lib/dpkg/status").exists():
        return None
    # A package that is held back is as open as one that was forgotten.
    planned = host.run(("apt-get", "-s", "-q", "--ignore-hold", "-o", "Debug::NoLocking=true", "dist-upgrade"))
    # Without a list of security updates none is ever pending.
    lists = [path.stat().st_mtime for path in (host.root / "var/lib/apt/lists").glob("*security*_Packages*")]
    age = int(time.time() - max(lists)) if lists else -1
    automatic = host.text("etc/apt/apt.conf.d/20auto-upgrades") or ""
    facts: Facts = {
        "lists_days": -1 if age < -_DAY else max(0, age) // _DAY if lists else -1,
        "reboot_needed": any((host.root / name / "reboot-required").exists() for name in ("run", "var/run")),
        "automatic": bool(re.search(r'Unattended-Upgrade\s+"1"', automatic)),
    }
    if planned is not None:
        lines = [line for line in planned.splitlines() if line.startswith("Inst ")]
        facts["pending"] = len(lines)
        facts["pending_security"] = sum("security" in line.lower() for line in lines)
    return facts


def _cpu(host: Host) -> Facts | None:
    info = host.text("proc/cpuinfo")
    if info is None:
        return None
    facts: Facts = {"microcode": _field(info, "microcode")}
    flags = _field(info, "flags").split()
    if flags:
        facts["missing"] = tuple(name for name in _FEATURES if name not in flags)
    known = sorted((host.root / "sys/devices/system/cpu/vulnerabilities").glob("*"))
    if known:
        facts["vulnerable"] = tuple(one.name for one in known if _opens(one))
    return facts


def _opens(hole: Path) -> bool:
    try:
        return hole.read_text(errors="replace").startswith(("Vulnerable", "Unknown"))
    except OSError:
        return True


def _boot(host: Host) -> Facts:
    facts: Facts = {
        "tpm": any((host.root / "sys/class/tpm").glob("tpm*")),
        "lockdown": next(iter(re.findall(r"\[(\w+)\]", host.text("sys/kernel/security/lockdown") or "")), "unknown"),
    }
    try:
        facts["secure_boot"] = (host.root / _SECURE_BOOT).read_bytes()[-1:] == b"\1"
    except OSError:
        facts["secure_boot"] = False
    return facts


def _disk(host: Host) -> Facts | None:
    block = host.root / "sys/dev/block" / host.device
    if not block.exists():
        return None
    crypt = _crypt_under(block)
    if crypt is None:
        return {"encrypted": False, "bits": 0}
    facts: Facts = {"encrypted": True}
    table = host.run(("dmsetup", "table", crypt))
    bits = None if table is None else _key_bits(table)
    if bits is not None:
        facts["bits"] = bits
    return facts


def _crypt_under(block: Path, depth: int = 0) -> str | None:
    """Return the name of the dm-crypt device that a device is, or lies on."""
    try:
        if (block / "dm/uuid").read_text().startswith("CRYPT-"):
            return (block / "dm/name").read_text().strip()
    except OSError:
        pass
    under = sorted((block / "slaves").glob("*")) if depth < 8 else []
    found = [_crypt_under(one, depth + 1) for one in under]
    # Every disk under it has to be encrypted: a mirror half in the clear is in the clear.
    return found[0] if found and all(one is not None for one in found) else None


def _key_bits(table: str) -> int | None:
    parts = table.split()
    if len(parts) < 5 or parts[2] != "crypt":
        return None
    cipher, key = parts[3], parts[4]
    size = int(key.split(":")[1]) if key.startswith(":") and key.split(":")[1].isdecimal() else len(key) // 2
    # XTS takes two keys of half the length each.
    return size * 8 // 2 if "xts" in cipher else size * 8


def _memory(host: Host) -> Facts | None:
    swaps = host.text("proc/swaps")
    if swaps is None:
        return None
    devices = [line.split()[0] for line in swaps.splitlines()[1:] if line.strip()]
    pattern = (host.text("proc/sys/kernel/core_pattern") or "").strip()
    scope = (host.text("proc/sys/kernel/yama/ptrace_scope") or "").strip()
    return {
        "swap": len(devices),
        "swap_safe": all(_swap_safe(host, device) for device in devices),
        "core_to_program": pattern.startswith("|"),
        "ptrace_scope": int(scope) if scope.isdecimal() else 0,
    }


def _swap_safe(host: Host, device: str) -> bool:
    # A file may be called like a device.
    folder, _, name = device.rpartition("/")
    if folder != "/dev":
        return False
    if re.fullmatch(r"zram[0-9]+", name):
        # One that writes what it has no room for to a disk says where.
        return (host.text(f"sys/block/{name}/backing_dev") or "none").strip() == "none"
    return _crypt_under(host.root / "sys/class/block" / name) is not None


def _accounts(host: Host) -> Facts | None:
    text = host.text("etc/passwd")
    if text is None:
        return None
    rows = [row for row in (line.split(":") for line in text.splitlines()) if len(row) == 7]
    uids = Counter(row[2].lstrip("0") for row in rows)
    facts: Facts = {"shared_uids": tuple(row[0] for row in rows if uids[row[2].lstrip("0")] > 1)}
    shadow = host.text("etc/shadow")
    if shadow is None:
        return facts
    secrets: dict[str, str] = {}
    for row in (line.split(":") for line in shadow.splitlines()):
        if len(row) > 1:
            # Of two lines on one account the first holds.
            secrets.setdefault(row[0], row[1])
    enters = [row for row in rows if not row[6].endswith(("nologin", "false", "sync"))]
    # An account whose password isn't in the shadow file, and is empty, has none either.
    facts["empty_passwords"] = tuple(row[0] for row in enters if row[1] == "" or secrets.get(row[0], "!") == "")
    facts["guests"] = tuple(
        row[0] for row in enters if row[0].startswith("guest") and not secrets.get(row[0], "!").startswith(("!", "*"))
    )
    return facts


def _passwords(host: Host) -> Facts | None:
    modules = [host.text(f"etc/pam.d/{name}") or "" for name in ("common-password", "system-auth", "password-auth")]
    if not any(modules):
        return None
    rules = "\n".join(line for line in "\n".join(modules).splitlines() if not line.lstrip().startswith("#"))
    quality = "pam_pwquality" in rules or "pam_passwdqc" in rules
    settings = f"{host.text('etc/security/pwquality.conf') or ''}\n{rules}" if quality else rules
    least = _setting(settings, "minlen", 8 if quality else 6)
    return {"min_length": least, "least_bits": least * _BITS_PER_CHARACTER, "ssh_passwords": _ssh_passwords(host)}


def _setting(text: str, name: str, default: int) -> int:
    found = re.findall(rf"^(?:[^#\n]*\s)?{name}\s*=\s*(\d{{1,6}})", text, re.MULTILINE)
    return int(found[-1]) if found else default


def _ssh_passwords(host: Host) -> bool:
    main = host.text("etc/ssh/sshd_config")
    if main is None:
        # None that runs by this file; one that can't be read may say anything.
        return (host.root / "etc/ssh/sshd_config").exists()
    # The first value that sshd reads holds, and its drop-ins are read first.
    drops = sorted((host.root / "etc/ssh/sshd_config.d").glob("*.conf"))
    texts = [host.text(f"etc/ssh/sshd_config.d/{path.name}") for path in drops]
    return any(text is None for text in texts) or any(
        _sshd_allows("\n".join((*filter(None, texts), main)), name)
        for name in ("PasswordAuthentication", "KbdInteractiveAuthentication")
    )


def _sshd_allows(text: str, name: str) -> bool:
    """Tell whether a setting that is on unless it is turned off is on, for everybody or for some."""
    everywhere = re.split(r"^\s*Match\b", text, maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)[0]
    setting = rf"^\s*{name}(?:\s+|\s*=\s*)\"?(\w+)"
    found = re.search(setting, everywhere, re.MULTILINE | re.IGNORECASE)
    said = re.findall(setting, text, re.MULTILINE | re.IGNORECASE)
    return found is None or found[1].lower() != "no" or any(one.lower() != "no" for one in said)


def _firewall(host: Host) -> Facts | None:
    ruleset = host.run(("nft", "list", "ruleset"))
    wanted = {"ip", "ip6"} if (host.root / "proc/net/if_inet6").exists() else {"ip"}
    if ruleset is not None and "hook input" in ruleset:
        return {"drops": wanted <= _dropping(ruleset)}
    tables = host.run(("iptables", "-S", "INPUT"))
    if tables is not None:
        more = host.run(("ip6tables", "-S", "INPUT")) if "ip6" in wanted else "-P INPUT DROP"
        return {"drops": all("-P INPUT DROP" in (one or "").splitlines() for one in (tables, more))}
    return {"drops": False} if ruleset is not None else None


def _dropping(ruleset: str) -> set[str]:
    """Return the families of which nothing comes in that isn't allowed: a table of `ip` says nothing of IPv6."""
    found: set[str] = set()
    family = ""
    for line in ruleset.splitlines():
        table = re.match(r"table (\w+) ", line)
        if table:
            family = table[1]
        elif re.match(r"\s*type filter hook input priority [^;\"]*; policy drop;", line):
            found |= {"ip", "ip6"} if family == "inet" else {family}
    return found


def _listeners(host: Host) -> Facts | None:
    tables = [host.text(f"proc/net/{name}") for name in ("tcp", "tcp6")]
    if tables == [None, None]:
        return None
    ports = {port for table in tables if table for port in _open_ports(table)}
    return {
        "ports": tuple(f"tcp/{port}" for port in sorted(ports)),
        "cleartext": tuple(f"tcp/{port}" for port in sorted(ports & _CLEARTEXT)),
    }


def _open_ports(table: str) -> Iterator[int]:
    for line in table.splitlines()[1:]:
        parts = line.split()
        if len(parts) > 3 and parts[3] == _LISTEN:
            address, _, port = parts[1].partition(":")
            if not _loopback(address):
                yield int(port, 16)


def _loopback(address: str) -> bool:
    # As the kernel prints it: words of 32 bits, each in the machine's own order.
    if len(address) == 8:
        return address.endswith("7F")
    return address == "0" * 24 + "01000000" or (
        address[:16] == "0" * 16 and address[16:24] == "FFFF0000" and address.endswith("7F")
    )


def _machine(host: Host) -> Facts:
    chassis = (host.text("sys/class/dmi/id/chassis_type") or "").strip()
    system = host.text("etc/os-release") or ""
    name = _value(system, "ID")
    screens = ("usr/share/xsessions", "usr/share/wayland-sessions")
    facts: Facts = {
        "system": name or "unknown",
        "reduced": name in _REDUCED,
        "graphical": any(any((host.root / one).glob("*.desktop")) for one in screens),
    }
    if chassis:
        facts["portable"] = chassis in _PORTABLE
    flags = _field(host.text("proc/cpuinfo") or "", "flags").split()
    if flags:
        facts["hypervisor"] = "hypervisor" in flags
    with contextlib.suppress(OSError):
        uids = {uid for _program, uid in host.processes()}
        others = sorted(uid for uid in uids if _FIRST_USER <= uid < _NOBODY and uid != host.owner)
        facts["other_users"] = tuple(map(str, others))
    return facts


def _endpoint(host: Host) -> Facts:
    # The kernel keeps 15 characters of the name that a program has for itself.
    names = {name for name, uid in host.processes() if uid < _FIRST_USER}
    agents = sorted(one for one in _AGENTS if one in names or one[:15] in names)
    return {"agents": tuple(agents), "audited": "auditd" in names}


def _peripherals(host: Host) -> Facts | None:
    devices = host.root / "sys/class"
    if not devices.exists():
        return None
    senses = [*_names(devices / "video4linux", "*"), *_names(devices / "sound", "card*")]
    radios = [path.parent.name for path in devices.glob("net/*/wireless")]
    radios += _names(devices / "ieee80211", "*")
    blocked = any(
        re.search(
            r"^\s*(install\s+usb[-_]storage\s+/(usr/)?bin/(true|false)|blacklist\s+usb[-_]storage)", text, re.MULTILINE
        )
        for text in (
            host.text(f"etc/modprobe.d/{name}") or "" for name in _names(host.root / "etc/modprobe.d", "*.conf")
        )
    )
    usb = any((host.root / "sys/bus/usb/devices").glob("*"))
    # What is in the kernel already needs no module to be loaded.
    blocked = blocked and not (host.root / "sys/module/usb_storage").exists()
    return {
        "senses": tuple(sorted(senses)),
        "radios": tuple(sorted((*radios, *_names(devices / "bluetooth", "*")))),
        "storage": ("usb-storage",) if usb and not blocked else (),
    }


def _software(host: Host) -> Facts | None:
    status = host.text("var/lib/dpkg/status")
    if status is None:
        return None
    unowned = [
        f"/{folder}/{name}"
        for folder in ("usr/local/bin", "usr/local/sbin")
        for name in _names(host.root / folder, "*")
    ]
    return {"packages": status.count("\nStatus: install ok installed\n"), "unowned": tuple(sorted(unowned))}


def _time(host: Host) -> Facts | None:
    told = host.clock()
    return None if told is None else {"synchronised": told}


def _files(host: Host) -> Facts | None:
    private = host.home / "keeper"
    if not private.is_dir():
        return None
    exposed = [
        str(path.relative_to(host.home))
        for path in (private, *sorted(private.rglob("*")))
        if not path.is_symlink() and _open_to_others(path.stat(), private.stat().st_uid)
    ]
    return {"exposed": tuple(exposed)}


def _open_to_others(found: os.stat_result, owner: int) -> bool:
    return bool(found.st_mode & 0o007) or found.st_uid != owner


def _names(folder: Path, pattern: str) -> Iterable[str]:
    return (path.name for path in folder.glob(pattern))


def _field(info: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
    return found[1] if found else ""


def _value(text: str, name: str) -> str:
    found = re.search(rf'^{name}="?([\w.-]+)"?\s*$', text, re.MULTILINE)
    return found[1].lower() if found else ""


_READERS: Final[Mapping[str, Callable[[Host], Facts | None]]] = {
    "host.accounts": _accounts,
    "host.boot": _boot,
    "host.cpu": _cpu,
    "host.disk": _disk,
    "host.endpoint": _endpoint,
    "host.files": _files,
    "host.firewall": _firewall,
    "host.listeners": _listeners,
    "host.machine": _machine,
    "host.memory": _memory,
    "host.passwords": _passwords,
    "host.peripherals": _peripherals,
    "host.software": _software,
    "host.time": _time,
    "host.updates": _updates,
}


def host_looks(host: Host) -> Iterator[Look]:
    """Yield what each of the host's collectors saw."""
    for collector, read in _READERS.items():
        try:
            facts = read(host)
        except (OSError, ValueError):
            # A file that isn't as the kernel or a package writes it was written by somebody else.
            facts = None
        subject = f"host:{host.name}"
        if facts is None:
            yield Look(collector=collector, subject=subject, missing="this host doesn't let it be read")
        else:
            yield Look(collector=collector, subject=subject, facts=facts)
