"""What the responder guards, and what it may do: a small file that people write, read strictly. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self

from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import SHADOW, ModelId, model_id
from strongroom.core.signature import PublicKey
from strongroom.detection.sensors.feeds import check_feed
from strongroom.detection.sensors.readers import READERS
from strongroom.detection.vocabulary import VOCABULARY
from strongroom.release.precautions import APPROVER_SECONDS
from strongroom.responder.drilling import DRILL
from strongroom.responder.limits import HOUR
from strongroom.responder.tailing import LOG
from strongroom.response.subjects import Subject, SubjectKind

MAX_SETTINGS: Final = 1 << 20
MAX_MODELS: Final = 256
MAX_GATES: Final = 64
MAX_SENSORS: Final = 16
MAX_WATCHED: Final = 65536
MAX_PATH: Final = 4096
MAX_USERS: Final = 64
MAX_HOSTS: Final = 1024
MAX_SILENCE: Final = 366 * 86400
MOST_HOURS: Final = APPROVER_SECONDS // HOUR
"""The longest that the keeper lets one approver more be asked for."""
MOST_AN_HOUR: Final = 60
GUARD: Final = "guard"
DETECTOR: Final = "detector"
AUDIT: Final = "audit"
OWN_SOURCES: Final = (GUARD, DETECTOR, LOG, AUDIT, DRILL)
FEED_KIND: Final = "strongroom"
"""Whose form the lines of an operator's own feeds have."""
WEBHOOK_KINDS: Final = frozenset({"canarytokens", "falco", FEED_KIND})
"""Sensors that post each event by HTTP. Our own searches write to a socket: what posts in their form is a feed."""
HOSTLESS_KINDS: Final = frozenset({"canarytokens"})
"""Sensors whose form names no host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFile:
    """A gate on this machine, and the models whose enclaves speak through it."""

    settings: str
    """The gate's own settings file."""
    state: str
    """The folder with its record."""
    models: tuple[ModelId, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form.
        """
        return cls(settings=read_path(fields, "settings"), state=read_path(fields, "state"), models=_models(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSocket:
    """Another sensor, which writes its lines to a socket here."""

    name: str
    kind: str
    """Whose form the lines have: a reader of :mod:`strongroom.detection.sensors`."""
    socket: str
    user: int
    """The user id that may write there, by the kernel's word."""
    silent_seconds: int
    """How long it may say nothing; 0: for ever, as one does that only speaks of break-ins."""
    hosts: tuple[str, ...] = ()
    """The only hosts that it may speak for, by its own word; none: all that it says is about this one."""
    events: tuple[str, ...] = ()
    """The only events that it may tell, as an operator's feed does; none: it isn't one."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, a kind that has no reader, or a name of our own.
        """
        made = cls(
            name=fields.text("name", max_length=64),
            kind=fields.text("kind", max_length=64),
            socket=read_path(fields, "socket"),
            user=fields.integer("user", most=2**32 - 2),
            silent_seconds=_silence(fields),
            hosts=_hosts(fields),
            events=_events(fields),
        )
        if made.kind not in READERS:
            raise MalformedError(f"no sensor of kind `{made.kind}` is known")
        _check_kind(made)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorWebhook:
    """Another sensor, which posts its events to an address here."""

    name: str
    kind: str
    address: str
    """A loopback address with its port, or the path of a socket."""
    secret: str
    """The file that holds the secret path."""
    silent_seconds: int
    hosts: tuple[str, ...] = ()
    """As a :class:`SensorSocket` has them."""
    events: tuple[str, ...] = ()
    """As a :class:`SensorSocket` has them."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, a kind that posts nothing, or an address that isn't this machine's own.
        """
        made = cls(
            name=fields.text("name", max_length=64),
            kind=fields.text("kind", max_length=64),
            address=fields.text("address", max_length=MAX_PATH),
            secret=read_path(fields, "secret"),
            silent_seconds=_silence(fields),
            hosts=_hosts(fields),
            events=_events(fields),
        )
        if made.kind not in WEBHOOK_KINDS:
            raise MalformedError(f"a sensor of kind `{made.kind}` posts nothing")
        if made.kind == FEED_KIND and not made.events:
            raise MalformedError(f"a webhook of kind `{FEED_KIND}` is a feed: it names its `events`")
        _check_kind(made)
        _check_local(made.address)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFile:
    """A signed pack of rules, in the place of the one that comes with the program."""

    file: str
    key: PublicKey
    """Whose signature it must have."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form.
        """
        with fields:
            return cls(file=read_path(fields, "file"), key=fields.parsed("key", PublicKey.parse, max_length=4096))


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingSettings:
    """Which rules' alerts about a person ask for one approver more."""

    rules: tuple[str, ...] = ("person-far-from-usual",)
    """None: nothing is asked of anybody."""
    hours: int = 72
    """How long it stands."""
    an_hour: int = 4
    """How many people it may be asked of within an hour."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form.
        """
        with fields:
            return cls(
                rules=fields.texts("rules", most=32, max_length=96),
                hours=fields.integer("hours", least=1, most=MOST_HOURS),
                an_hour=fields.integer("an_hour", least=1, most=MOST_AN_HOUR),
            )

    @property
    def seconds(self) -> int:
        """How long it stands."""
        return self.hours * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderSettings:
    """One responder, on one host."""

    host: str
    models: tuple[ModelId, ...]
    """Frozen, all of them, when an alert doesn't say which model it is about."""
    watched: tuple[str, ...]
    """Sealed files whose opening is told and allowed."""
    readers: tuple[int, ...]
    """User ids, by the kernel's word, that have a reason to open what is watched. Decoys have no exceptions."""
    gates: tuple[GateFile, ...]
    sensors: tuple[SensorSocket, ...]
    acting: tuple[str, ...]
    """Sensors whose word may freeze: ``guard``, or another that the settings name."""
    freezes_an_hour: int
    """By one sensor's word."""
    webhooks: tuple[SensorWebhook, ...] = ()
    kernel_audit: bool = False
    """Whether the kernel's audit records are read."""
    pack: PackFile | None = None
    """None: the rules that come with the program."""
    asking: AskingSettings = AskingSettings()
    """Left out: on. What follows is one more signature for a while, and never less than the rules ask for."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or a sensor that may act and isn't one of the settings.
        """
        fields.constant("v", 1)
        made = cls(
            host=fields.parsed("host", read_host, max_length=64),
            models=_models(fields),
            watched=_absolute(fields.texts("watched", most=MAX_WATCHED, max_length=MAX_PATH)),
            readers=read_users(fields, "readers"),
            gates=fields.objects("gates", GateFile.read, most=MAX_GATES),
            sensors=fields.objects("sensors", SensorSocket.read, most=MAX_SENSORS),
            acting=fields.texts("acting", most=32, max_length=64),
            freezes_an_hour=fields.integer("freezes_an_hour", least=1, most=1000),
            webhooks=_optional_objects(fields, "webhooks"),
            kernel_audit=fields.boolean("kernel_audit") if fields.optional("kernel_audit") else False,
            pack=PackFile.read(fields.child("pack")) if fields.optional("pack") else None,
            asking=AskingSettings.read(fields.child("asking")) if fields.optional("asking") else AskingSettings(),
        )
        _check_names(made)
        return made

    @property
    def silences(self) -> dict[str, float]:
        """The longest silence of each sensor that has one, in seconds."""
        return {one.name: float(one.silent_seconds) for one in self.others if one.silent_seconds}

    def hosts_of(self, sensor: str) -> tuple[str, ...]:
        """Return the hosts that a sensor may speak for; none: this one, whatever it says."""
        return next((one.hosts for one in self.others if one.name == sensor), ())

    @property
    def others(self) -> tuple[SensorSocket | SensorWebhook, ...]:
        """All sensors that aren't ours."""
        return (*self.sensors, *self.webhooks)


def _models(fields: Fields) -> tuple[ModelId, ...]:
    found = tuple(model_id(text) for text in fields.texts("models", most=MAX_MODELS))
    if not found or len(set(found)) != len(found):
        raise MalformedError(f"`{fields.where}.models` names at least one model, and each once")
    return found


def _check_names(made: ResponderSettings) -> None:
    names = [one.name for one in made.others]
    places = [*(one.socket for one in made.sensors), *(one.address for one in made.webhooks)]
    if len({*names}) != len(names) or len({*places}) != len(places):
        raise MalformedError("each sensor has a name and a place of its own")
    if wrong := sorted({*names} & {"", *OWN_SOURCES}):
        raise MalformedError(f"a sensor can't be called `{wrong[0]}`")
    own = {GUARD, LOG, *([AUDIT] if made.kernel_audit else [])}
    if unknown := set(made.acting) - {*own, *names}:
        # A name that is spelt wrongly would be a decoy that freezes nothing.
        raise MalformedError(f"`acting` names `{min(unknown)}`, which isn't one of the responder's sensors")


def _optional_objects(fields: Fields, name: str) -> tuple[SensorWebhook, ...]:
    return fields.objects(name, SensorWebhook.read, most=MAX_SENSORS) if fields.optional(name) else ()


def _silence(fields: Fields) -> int:
    return fields.integer("silent_seconds", most=MAX_SILENCE) if fields.optional("silent_seconds") else 0


def _hosts(fields: Fields) -> tuple[str, ...]:
    if not fields.optional("hosts"):
        return ()
    found = tuple(read_host(text) for text in fields.texts("hosts", most=MAX_HOSTS, max_length=64))
    if not found or len({*found}) != len(found):
        # An empty list might be read as all of them, or as none.
        raise MalformedError(f"`{fields.where}.hosts` names at least one host, and each once")
    return found


def _events(fields: Fields) -> tuple[str, ...]:
    if not fields.optional("events"):
        return ()
    return check_feed(fields.texts("events", most=len(VOCABULARY), max_length=64))


def _check_kind(made: SensorSocket | SensorWebhook) -> None:
    if made.hosts and made.kind in HOSTLESS_KINDS:
        raise MalformedError(f"a sensor of kind `{made.kind}` names no hosts")
    if made.events and made.kind != FEED_KIND:
        # Its reader makes what it makes; a list that changed nothing would be believed.
        raise MalformedError(f"only a sensor of kind `{FEED_KIND}` has `events`")


def _check_local(address: str) -> None:
    if address.startswith("/") and "\0" not in address:
        return
    host, _, port = address.rpartition(":")
    try:
        local = ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        local = False
    if not local or not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise MalformedError("a webhook's address is a path, or a loopback address with its port")


def read_host(text: str) -> str:
    """Check and return a host's name as playbooks can be about it.

    :raises MalformedError: another form: whatever a playbook would do to that host would fail.
    """
    try:
        host = Subject.parse(f"{SubjectKind.HOST.value}:{text}")
    except MalformedError:
        raise MalformedError("a host's name is a-z, 0-9, `.`, `_` and `-`, in lower case") from None
    if host.shadow:
        raise MalformedError(f"a host doesn't begin with `{SHADOW}`: so are stand-ins of drills called")
    return host.name


def read_users(fields: Fields, name: str) -> tuple[int, ...]:
    """Read a member that is user ids, at most :data:`MAX_USERS`.

    :raises MalformedError: another form.
    """
    found = []
    for _where, value in fields.items(name, most=MAX_USERS):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32 - 1:
            raise MalformedError(f"`{fields.where}.{name}` are user ids")
        found.append(value)
    return tuple(found)


def read_path(fields: Fields, name: str) -> str:
    """Read a member that is an absolute path.

    :raises MalformedError: another form.
    """
    return _absolute((fields.text(name, max_length=MAX_PATH),))[0]


def _absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    if not all(path.startswith("/") and "\0" not in path for path in paths):
        raise MalformedError("paths of the responder's settings are absolute")
    return paths
