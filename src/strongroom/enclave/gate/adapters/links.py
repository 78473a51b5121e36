"""The gate's namespace and its two links. Rules are loaded and read back before there is any link.

Both links have ARP off and fixed neighbours: an enclave that may send no ARP request can't say anything with one.
IPv6 is off in the gate, and its rules drop it besides.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from strongroom.enclave.gate.adapters.tools import ip, run
from strongroom.enclave.gate.errors import GateTakenError, GateUnavailableError
from strongroom.enclave.gate.rules import ENCLAVE_LINK, WORLD_LINK
from strongroom.enclave.gate.settings import GateSettings

_SWITCHES: Final = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
    "net.ipv4.conf.all.rp_filter=1",
    "net.ipv4.conf.default.rp_filter=1",
    "net.ipv4.conf.all.accept_redirects=0",
    "net.ipv4.conf.all.send_redirects=0",
    # A connection that was being spoken over when the gate was closed isn't taken up in its middle.
    "net.netfilter.nf_conntrack_tcp_loose=0",
)
FAR_LINK: Final = "gate"
"""The name of each link's other end, in the enclave and in a world that has a namespace of its own."""


def exists(namespace: str) -> bool:
    """Tell whether a named network namespace is there."""
    return namespace in {line.split()[0] for line in ip("netns", "list").decode().splitlines() if line.split()}


def make_namespace(settings: GateSettings) -> None:
    """Make the gate's namespace: without links, and without rules.

    :raises GateTakenError: it is there already. :raises GateUnavailableError: the enclave's isn't, or it can't be made.
    """
    for needed in filter(None, (settings.enclave, settings.world)):
        if not exists(needed):
            raise GateUnavailableError(
                f"there is no network namespace `{needed}`", remedy="make it with `ip netns add`, or `ip netns attach`"
            )
    if exists(settings.namespace):
        raise GateTakenError(
            f"the gate `{settings.name}` is open already", remedy="close it: strongroom enclave gate close"
        )
    ip("netns", "add", settings.namespace)
    run("ip", "netns", "exec", settings.namespace, "sysctl", "-q", "-w", *_SWITCHES)


def connect_world(settings: GateSettings) -> None:
    """Link the gate to the world."""
    far = _world_link(settings)
    ip("-n", settings.namespace, "link", "add", WORLD_LINK, "type", "veth", "peer", "name", far, *_peer_of(settings))
    _address(settings.namespace, WORLD_LINK, settings.gate_outside)
    _address(settings.world, far, settings.world_address)
    _know(settings.namespace, WORLD_LINK, settings.world_address, _hardware(settings.world, far))
    _know(settings.world, far, settings.gate_outside, _hardware(settings.namespace, WORLD_LINK))
    ip("-n", settings.namespace, "route", "add", "default", "via", settings.world_address, "dev", WORLD_LINK)


def connect_enclave(settings: GateSettings) -> None:
    """Link the enclave to the gate: the last thing that is done."""
    gate, enclave = settings.namespace, settings.enclave
    ip("-n", gate, "link", "add", ENCLAVE_LINK, "type", "veth", "peer", "name", FAR_LINK, "netns", enclave)
    # The kernel counts a packet that it hasn't cut yet with one header: so none is left to be cut.
    ip("-n", enclave, "link", "set", "dev", FAR_LINK, "gso_max_segs", "1")
    _address(gate, ENCLAVE_LINK, settings.gate_inside)
    _address(enclave, FAR_LINK, settings.enclave_address)
    _know(gate, ENCLAVE_LINK, settings.enclave_address, _hardware(enclave, FAR_LINK))
    _know(enclave, FAR_LINK, settings.gate_inside, _hardware(gate, ENCLAVE_LINK))
    ip("-n", enclave, "route", "add", "default", "via", settings.gate_inside, "dev", FAR_LINK)


def remove(settings: GateSettings) -> None:
    """Take the gate's namespace away; its links and rules go with it."""
    with suppress(GateUnavailableError):
        ip("netns", "del", settings.namespace)


def _world_link(settings: GateSettings) -> str:
    # In the machine's own namespace the name is taken once, so it is the gate's own: 15 characters at most.
    return FAR_LINK if settings.world else f"sg{re.sub('[^a-z0-9]', '', settings.name)[:13]}"


def _peer_of(settings: GateSettings) -> tuple[str, ...]:
    return ("netns", settings.world) if settings.world else ("netns", "1")


def _in(namespace: str) -> tuple[str, ...]:
    return ("-n", namespace) if namespace else ()


def _address(namespace: str, link: str, address: str) -> None:
    ip(*_in(namespace), "link", "set", "dev", link, "arp", "off")
    ip(*_in(namespace), "address", "add", f"{address}/30", "dev", link)
    ip(*_in(namespace), "link", "set", "dev", link, "up")


def _know(namespace: str, link: str, address: str, hardware: str) -> None:
    ip(*_in(namespace), "neighbour", "replace", address, "lladdr", hardware, "dev", link, "nud", "permanent")


def _hardware(namespace: str, link: str) -> str:
    found = re.search(r"link/ether ([0-9a-f:]{17})", ip(*_in(namespace), "link", "show", "dev", link).decode())
    if found is None:
        raise GateUnavailableError(f"the link `{link}` has no hardware address")
    return found.group(1)
