"""What the responder guards, and what it may do: a small file that people write, read strictly. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.detection.sensors.readers import READERS

MAX_SETTINGS: Final = 1 << 20
MAX_MODELS: Final = 256
MAX_GATES: Final = 64
MAX_SENSORS: Final = 16
MAX_WATCHED: Final = 65536
MAX_PATH: Final = 4096
GUARD: Final = "guard"
DETECTOR: Final = "detector"
OWN_SOURCES: Final = (GUARD, DETECTOR)


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
        return cls(settings=_path(fields, "settings"), state=_path(fields, "state"), models=_models(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSocket:
    """Another sensor, which writes its lines to a socket here."""

    name: str
    kind: str
    """Whose form the lines have: a reader of :mod:`strongroom.detection.sensors`."""
    socket: str
    user: int
    """The user id that may write there, by the kernel's word."""

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, a kind that has no reader, or a name of our own.
        """
        made = cls(
            name=fields.text("name", max_length=64),
            kind=fields.text("kind", max_length=64),
            socket=_path(fields, "socket"),
            user=fields.integer("user", most=2**32 - 2),
        )
        if made.kind not in READERS:
            raise MalformedError(f"no sensor of kind `{made.kind}` is known")
        if not made.name or made.name in OWN_SOURCES:
            raise MalformedError(f"a sensor can't be called `{made.name}`")
        return made


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

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or a sensor that may act and isn't one of the settings.
        """
        fields.constant("v", 1)
        made = cls(
            host=fields.text("host", max_length=64),
            models=_models(fields),
            watched=_absolute(fields.texts("watched", most=MAX_WATCHED, max_length=MAX_PATH)),
            readers=_users(fields),
            gates=fields.objects("gates", GateFile.read, most=MAX_GATES),
            sensors=_sensors(fields),
            acting=fields.texts("acting", most=32, max_length=64),
            freezes_an_hour=fields.integer("freezes_an_hour", least=1, most=1000),
        )
        if unknown := set(made.acting) - {GUARD, *(sensor.name for sensor in made.sensors)}:
            # A name that is spelt wrongly would be a decoy that freezes nothing.
            raise MalformedError(f"`acting` names `{min(unknown)}`, which isn't `{GUARD}` or a sensor of the settings")
        return made


def _models(fields: Fields) -> tuple[ModelId, ...]:
    found = tuple(model_id(text) for text in fields.texts("models", most=MAX_MODELS))
    if not found or len(set(found)) != len(found):
        raise MalformedError(f"`{fields.where}.models` names at least one model, and each once")
    return found


def _sensors(fields: Fields) -> tuple[SensorSocket, ...]:
    found = fields.objects("sensors", SensorSocket.read, most=MAX_SENSORS)
    if len({one.name for one in found}) != len(found) or len({one.socket for one in found}) != len(found):
        raise MalformedError("each sensor has a name and a socket of its own")
    return found


def _users(fields: Fields) -> tuple[int, ...]:
    found = []
    for _where, value in fields.items("readers", most=64):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32 - 1:
            raise MalformedError(f"`{fields.where}.readers` are user ids")
        found.append(value)
    return tuple(found)


def _path(fields: Fields, name: str) -> str:
    return _absolute((fields.text(name, max_length=MAX_PATH),))[0]


def _absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    if not all(path.startswith("/") and "\0" not in path for path in paths):
        raise MalformedError("paths of the responder's settings are absolute")
    return paths
