"""The list of decoys: where they lie and which model they stand for. Signed by the responder; never kept beside them.

Whoever has the list knows what not to touch, so it is kept as a secret is: in the responder's own folder, for its user
alone. It is signed because whoever could change it would take a decoy off it, and open that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, sign, verify
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.core.signature import PublicKey, Signer

DECOYS_TYPE: Final = payload_type("decoys.v1")
MAX_DECOYS: Final = 4096
MAX_MODELS: Final = 64
MAX_LIST: Final = 4 << 20
MAX_PATH: Final = 4096


class DecoyKind(StrEnum):
    """What a decoy looks like."""

    SHARD = "shard"
    """A file of a sealed directory whose key nobody has."""
    CREDENTIAL = "credential"
    """A file that names a way in which isn't one."""


class ForeignDecoysError(TamperedError):
    """The list of decoys is another deployment's."""

    code = "decoys-foreign"


class DecoysRolledBackError(TamperedError):
    """The list of decoys is gone, or an older one lies in its place."""

    code = "decoys-rolled-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoy:
    """One file that nobody has a reason to open."""

    path: str
    """Absolute."""
    kind: DecoyKind
    model: ModelId
    """Whose weights somebody is after who opens it: that model is frozen."""
    planted: Instant

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or a path that isn't absolute.
        """
        made = cls(
            path=fields.text("path", max_length=MAX_PATH),
            kind=fields.parsed("kind", DecoyKind),
            model=fields.parsed("model", model_id),
            planted=fields.instant("planted"),
        )
        if not made.path.startswith("/") or "\0" in made.path:
            raise MalformedError("a decoy's path is absolute")
        return made

    def to_json(self) -> Json:
        """Return what :meth:`read` reads."""
        return {
            "path": self.path,
            "kind": self.kind.value,
            "model": self.model,
            "planted": format_instant(self.planted),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoyModel:
    """A model of the policy that nobody has a reason to name: its weights are noise."""

    name: ModelId
    model: ModelId
    """Whose weights somebody is after who asks for it: that model is frozen."""
    planted: Instant

    def __post_init__(self) -> None:
        """Check that it doesn't stand for itself."""
        if self.name == self.model:
            raise MalformedError("a decoy model stands for another one")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form, or it stands for itself.
        """
        return cls(
            name=fields.parsed("name", model_id),
            model=fields.parsed("model", model_id),
            planted=fields.instant("planted"),
        )

    def to_json(self) -> Json:
        """Return what :meth:`read` reads."""
        return {"name": self.name, "model": self.model, "planted": format_instant(self.planted)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoys:
    """All decoys of one host, and decoy models of the deployment."""

    genesis: Digest
    serial: int = 0
    """Rises with each list, and is no less than the second in which the list was made; 0 where there is none yet."""
    decoys: tuple[Decoy, ...] = ()
    models: tuple[DecoyModel, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read canonical bytes.

        :raises MalformedError: another form, or a path twice.
        """
        with Fields(decode(data, max_bytes=MAX_LIST), "decoys") as fields:
            fields.constant("v", 1)
            made = cls(
                genesis=fields.digest("genesis"),
                serial=fields.integer("serial"),
                decoys=fields.objects("decoys", Decoy.read, most=MAX_DECOYS),
                models=fields.objects("models", DecoyModel.read, most=MAX_MODELS),
            )
        if len({one.name for one in made.models}) != len(made.models):
            raise MalformedError("the list of decoys names a model twice")
        if len({decoy.path for decoy in made.decoys}) != len(made.decoys):
            raise MalformedError("the list of decoys names a path twice")
        return made

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        decoys: list[Json] = [decoy.to_json() for decoy in self.decoys]
        models: list[Json] = [one.to_json() for one in self.models]
        return encode({"v": 1, "genesis": str(self.genesis), "serial": self.serial, "decoys": decoys, "models": models})

    @property
    def stand_for(self) -> dict[str, ModelId]:
        """Each decoy's path, or decoy model's name, and the model that it stands for."""
        return {one.path: one.model for one in self.decoys} | {one.name: one.model for one in self.models}

    def sign(self, signer: Signer) -> Envelope:
        """Sign the list."""
        return sign(DECOYS_TYPE, self.to_bytes(), signer)


def read_decoys(envelope: Envelope, key: PublicKey, genesis: Digest) -> Decoys:
    """Read a signed list.

    :param key: the responder's own.
    :raises SignatureError: it isn't signed by that key.
    :raises ForeignDecoysError: it is another deployment's.
    :raises MalformedError: another form.
    """
    verify(envelope, DECOYS_TYPE, [key], threshold=1)
    made = Decoys.parse(envelope.payload)
    if made.genesis != genesis:
        raise ForeignDecoysError("the list of decoys belongs to another deployment")
    return made


def newest_guarded(recorded: Iterable[Mapping[str, Json]]) -> int:
    """Return the serial of the newest list that was ever guarded; 0 where none was.

    :param recorded: the facts of the responder's record, from the first line on.
    """
    serials = (facts["guarded"] for facts in recorded if "guarded" in facts)
    return max((serial for serial in serials if isinstance(serial, int)), default=0)


def require_newest(decoys: Decoys, newest: int) -> bool:
    """Check that a list isn't older than one that was guarded before; returns whether it is a new one, to be recorded.

    Whoever takes the list away, or lays an older one there, would open decoys that nobody guards any more.

    :param newest: from :func:`newest_guarded`.
    :raises DecoysRolledBackError: it is.
    """
    if decoys.serial < newest:
        raise DecoysRolledBackError(
            "the list of decoys is gone, or an older one lies in its place",
            remedy="put the newest list back; or take away what lies there, and plant decoys anew",
        )
    return decoys.serial > newest
