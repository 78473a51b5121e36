"""What a local user, a tired operator or an odd file can do to the facts about a host: never make them look better."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.assessor.adapters.host import Host
from strongroom.assessor.adapters.host_looks import host_looks
from strongroom.assessor.collecting import Look, observe
from strongroom.assurance.observations import Fact
from strongroom.assurance.thresholds import Thresholds
from support.assessing import HOST, NOW, PASSWD, SHADOW, World
from support.examples import examples

SSHD = "etc/ssh/sshd_config"


def facts(world: World, collector: str, change: Callable[[Host], Host] = lambda host: host) -> Mapping[str, Fact]:
    """Return what a collector sees; nothing where it sees nothing."""
    return next(look.facts or {} for look in host_looks(change(world.host())) if look.collector == collector)


@pytest.mark.parametrize(
    "config",
    [
        "Match User bob\n  PasswordAuthentication no\n  KbdInteractiveAuthentication no\n",
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nMatch User bob\n  PasswordAuthentication yes\n",
        "PasswordAuthentication=yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
        'PasswordAuthentication "yes"\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n',
        "PasswordAuthentication no\n",
    ],
)
def test_sshd_takes_passwords_unless_it_is_told_for_everybody_not_to(tmp_path: Path, config: str) -> None:
    world = World(tmp_path)
    assert facts(world, "host.passwords")["ssh_passwords"] is False
    world.files[SSHD] = config
    assert facts(world, "host.passwords")["ssh_passwords"] is True


@pytest.mark.parametrize(
    ("device", "files"),
    [
        ("/srv/zram0", {}),
        ("/srv/dm-0", {"sys/class/block/dm-0/dm/uuid": "CRYPT-LUKS2-x\n", "sys/class/block/dm-0/dm/name": "x\n"}),
        ("/dev/zram0", {"sys/block/zram0/backing_dev": "/dev/sda3\n"}),
    ],
)
def test_a_swap_file_isnt_safe_for_its_name(tmp_path: Path, device: str, files: dict[str, str]) -> None:
    world = World(tmp_path)
    assert facts(world, "host.memory")["swap_safe"] is True
    world.files.update({"proc/swaps": f"Filename Type Size Used Priority\n{device} file 1000 0 -2\n", **files})
    assert facts(world, "host.memory")["swap_safe"] is False


def test_a_firewall_for_one_protocol_leaves_the_other_open(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files["proc/net/if_inet6"] = ""
    assert facts(world, "host.firewall")["drops"] is True
    chain = " chain input {{\n  type filter hook input priority filter; policy {policy};\n }}\n}}\n"
    world.programs["nft"] = (
        "table ip filter {\n" + chain.format(policy="drop") + "table ip6 f {\n" + chain.format(policy="accept")
    )
    assert facts(world, "host.firewall")["drops"] is False
    world.programs["nft"] = "table inet f {\n" + chain.format(policy='accept;\n  comment "policy drop"')
    assert facts(world, "host.firewall")["drops"] is False
    world.programs.update({"nft": "", "iptables": "-P INPUT DROP\n", "ip6tables": "-P INPUT ACCEPT\n"})
    assert facts(world, "host.firewall")["drops"] is False
    world.programs["ip6tables"] = "-P INPUT DROP\n"
    assert facts(world, "host.firewall")["drops"] is True


def test_accounts_without_a_password_are_found_wherever_it_is_missing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files["etc/passwd"] = PASSWD.replace("ops:x:", "ops::")
    assert facts(world, "host.accounts")["empty_passwords"] == ("ops",)
    world = World(tmp_path / "twice")
    world.files["etc/shadow"] = "ops::19000:0:99999:7:::\n" + SHADOW
    assert facts(world, "host.accounts")["empty_passwords"] == ("ops",)


def test_a_root_account_of_another_name_shares_its_id(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files["etc/passwd"] = PASSWD + "toor:x:00:0::/root:/bin/bash\n"
    assert facts(world, "host.accounts")["shared_uids"] == ("root", "toor")


def test_only_what_modprobe_reads_turns_usb_storage_off(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files.update(
        {"etc/modprobe.d/usb.conf": None, "etc/modprobe.d/usb.conf.off": HOST["etc/modprobe.d/usb.conf"]}
    )
    assert facts(world, "host.peripherals")["storage"] == ("usb-storage",)
    world = World(tmp_path / "loaded")
    world.files["sys/module/usb_storage/refcnt"] = "0\n"
    assert facts(world, "host.peripherals")["storage"] == ("usb-storage",)


def test_updates_are_pending_though_held_back_and_unknown_without_a_list_of_security_updates(tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []
    world = World(tmp_path)
    facts(world, "host.updates", lambda host: replace(host, run=lambda words: asked.append(tuple(words))))
    assert any("--ignore-hold" in words for words in asked)
    world.files.update({"var/lib/apt/lists/debian-security_Packages": None, "var/lib/apt/lists/deb_Packages": ""})
    assert facts(world, "host.updates")["lists_days"] == -1


def test_a_list_from_the_future_isnt_a_new_one(tmp_path: Path) -> None:
    world = World(tmp_path)

    def ahead(host: Host) -> Host:
        os.utime(host.root / "var/lib/apt/lists/debian-security_Packages", (2**33, 2**33))
        return host

    assert facts(world, "host.updates", ahead)["lists_days"] == -1


def test_where_other_processes_are_hidden_nobody_is_said_to_be_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert facts(world, "host.machine")["other_users"] == ()
    world.files["proc/1/comm"] = None
    assert "other_users" not in facts(world, "host.machine")
    assert not facts(world, "host.endpoint")


def test_an_unknown_chassis_or_processor_is_no_good_one(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files.update({"sys/class/dmi/id/chassis_type": None, "proc/cpuinfo": "Features : fp asimd\n"})
    assert not {"portable", "hypervisor"} & facts(world, "host.machine").keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files to another user")
def test_a_process_of_a_service_account_is_no_agent_for_its_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert facts(world, "host.endpoint")["agents"] == ("falco",)

    def theirs(host: Host, exe: str = "") -> Host:
        os.chown(host.root / "proc/17", 33, 33)
        if exe:
            (host.root / "proc/17/exe").symlink_to(exe)
        return host

    assert facts(world, "host.endpoint", theirs)["agents"] == ()
    assert facts(world, "host.endpoint", lambda host: theirs(host, "/usr/bin/falco"))["agents"] == ("falco",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files to another user")
def test_a_keepers_file_that_another_user_owns_is_exposed(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert facts(world, "host.files")["exposed"] == ()
    os.chown(tmp_path / "home/keeper/keyring.json", 33, 33)
    assert facts(world, "host.files")["exposed"] == ("keeper/keyring.json",)


def test_a_pipe_in_a_files_place_keeps_nobody_waiting(tmp_path: Path) -> None:
    world = World(tmp_path)

    def piped(host: Host) -> Host:
        (host.root / SSHD).unlink()
        os.mkfifo(host.root / SSHD)
        return host

    assert facts(world, "host.passwords", piped)["ssh_passwords"] is True


@given(
    name=st.sampled_from(sorted(HOST)),
    data=st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from(sorted(HOST.values())), st.text(max_size=12), st.integers(0, 60)).map(
            lambda made: (made[0][: made[2]] + made[1] + made[0][made[2] :]).encode("utf-8", "surrogateescape")
        ),
        st.just(b"minlen = " + b"9" * 5000),
        st.just(b" sl\n 0: 00000000:ZZZZ 0 0A\n"),
        st.just(b"9" * 5000),
    ),
    printed=st.text(max_size=80),
)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_hosts_files_the_collectors_end(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes, printed: str
) -> None:
    global _world  # noqa: PLW0603 - laying a host's files down for each example would be most of the time
    if _world is None:
        made = World(tmp_path_factory.mktemp("host"))
        _world = made.host()
    host = replace(_world, run=lambda _words: printed)
    whole = (host.root / name).read_bytes()
    try:
        (host.root / name).write_bytes(data)
        found: list[Look] = list(host_looks(host))
    finally:
        (host.root / name).write_bytes(whole)
    for look in found:
        assert str(observe(look, Thresholds(), NOW, log_index=None).digest).startswith("sha256:")


_world: Host | None = None
