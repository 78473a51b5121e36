"""What a gate lets through: a small file that people write, read strictly. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from strongroom.core.canonical import MAX_INTEGER, Json, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_PEERS: Final = 64
MAX_CONNECTIONS: Final = 4096
LEAST_BLOCK: Final = 65536
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,14}[a-z0-9])?")
_PREFIX: Final = 30


class Transport(StrEnum):
    """Transports that a peer may be spoken to over."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """Whom the enclave may speak to: an IPv4 address, a transport and a port."""

    address: str
    transport: Transport
    port: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or an address that isn't one host's.
        """
        return cls(
            address=fields.parsed("address", _host),
            transport=fields.parsed("transport", Transport),
            port=fields.integer("port", least=1, most=65535),
        )

    def to_json(self) -> dict[str, Json]:
        """Return what :meth:`read` reads."""
        return {"address": self.address, "transport": self.transport.value, "port": self.port}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """One gate. Bytes are those of whole IPv4 packets, headers included."""

    name: str
    """Lower-case letters, digits and hyphens, at most 16; the namespace is ``strongroom-gate-<name>``."""
    enclave: str
    """The enclave's network namespace, by its name under `ip netns`."""
    world: str
    """The namespace on the other side; empty for the machine's own."""
    inner: str
    """A /30 network between enclave and gate: its first host is the gate, its second the enclave."""
    outer: str
    """A /30 network between gate and world: its first host is the gate, its second the world."""
    peers: tuple[Peer, ...]
    bytes_out: int
    """Bytes that may leave in the gate's whole life."""
    bytes_in: int
    """Bytes that may come in. Answers tell the enclave little, but they are what acknowledgements ride on."""
    block_bytes: int
    """How far ahead the record runs before the kernel lets anything through; that much a restart may lose."""
    connections: int
    """Connections at once."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, networks that overlap, or a peer twice.
        """
        fields.constant("v", 1)
        made = cls(
            name=fields.parsed("name", _name),
            enclave=fields.parsed("enclave", _namespace, max_length=64),
            world=fields.parsed("world", _world, max_length=64),
            inner=fields.parsed("inner", _network),
            outer=fields.parsed("outer", _network),
            peers=fields.objects("peers", Peer.read, most=MAX_PEERS),
            bytes_out=fields.integer("bytes_out", least=LEAST_BLOCK, most=MAX_INTEGER),
            bytes_in=fields.integer("bytes_in", least=LEAST_BLOCK, most=MAX_INTEGER),
            block_bytes=fields.integer("block_bytes", least=LEAST_BLOCK, most=MAX_INTEGER),
            connections=fields.integer("connections", least=1, most=MAX_CONNECTIONS),
        )
        if not made.peers or len(set(made.peers)) != len(made.peers):
            raise MalformedError("a gate has at least one peer, and each once")
        if ipaddress.IPv4Network(made.inner).overlaps(ipaddress.IPv4Network(made.outer)):
            raise MalformedError("the gate's two networks overlap")
        if made.enclave == made.world:
            raise MalformedError("a gate stands between two namespaces, not in front of one")
        return made

    def to_json(self) -> dict[str, Json]:
        """Return what :meth:`read` reads."""
        return {
            "v": 1,
            "name": self.name,
            "enclave": self.enclave,
            "world": self.world,
            "inner": self.inner,
            "outer": self.outer,
            "peers": [peer.to_json() for peer in self.peers],
            "bytes_out": self.bytes_out,
            "bytes_in": self.bytes_in,
            "block_bytes": self.block_bytes,
            "connections": self.connections,
        }

    @property
    def digest(self) -> Digest:
        """How the record names these settings."""
        return Digest.of(encode(self.to_json()))

    @property
    def namespace(self) -> str:
        """The gate's own network namespace."""
        return f"strongroom-gate-{self.name}"

    @property
    def gate_inside(self) -> str:
        """The gate's address towards the enclave."""
        return _hosts(self.inner)[0]

    @property
    def enclave_address(self) -> str:
        """The enclave's address."""
        return _hosts(self.inner)[1]

    @property
    def gate_outside(self) -> str:
        """The gate's address towards the world: what peers see."""
        return _hosts(self.outer)[0]

    @property
    def world_address(self) -> str:
        """The world's address towards the gate: its next hop."""
        return _hosts(self.outer)[1]


def _hosts(network: str) -> tuple[str, str]:
    first, second = ipaddress.IPv4Network(network).hosts()
    return str(first), str(second)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise MalformedError("a gate's name has 1 to 16 lower-case letters, digits and hyphens")
    return text


def _namespace(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise MalformedError("a network namespace is named as `ip netns` lists it")
    return text


def _world(text: str) -> str:
    return _namespace(text) if text else ""


def _host(text: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise MalformedError("a peer has an IPv4 address: what isn't IPv4 is dropped") from None
    if address.is_multicast or address.is_unspecified or address == ipaddress.IPv4Address("255.255.255.255"):
        raise MalformedError("a peer's address is one host's")
    return str(address)


def _network(text: str) -> str:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        network = None
    if network is None or network.prefixlen != _PREFIX:
        raise MalformedError("a gate's network is an IPv4 /30, such as `169.254.77.0/30`")
    return str(network)
