"""Trust policies (c2sp.org/tlog-policy): which witnesses must have cosigned a checkpoint before it is believed.

Lines, words parted by spaces and tabs: ``log <vkey> [<url>]``, ``witness <name> <vkey> [<url>]``,
``group <name> all|any|<k> <name>...`` and exactly one ``quorum <name>|none``. A name stands for what an earlier line
defines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosignature, CosignerKey, read_cosignatures
from strongroom.audit.errors import (
    CosignatureFromFutureError,
    CosignatureOtherLogError,
    ForgedCheckpointError,
    NoteError,
    QuorumMissingError,
    WrongKeyError,
)
from strongroom.audit.note import Note, VerifierKey
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError

MAX_POLICY: Final = 1 << 17
MAX_OF_A_KIND: Final = 60
"""Logs, witnesses and groups, each; the specification asks for 32 at least. All of them and the log fit on one note."""
CLOCK_SKEW: Final = 60
"""Seconds that a witness's clock may be ahead of ours."""
NONE: Final = "none"
_FOREIGN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")

LogKey = VerifierKey | CosignerKey
"""A log's key: Ed25519 (type 0x01), or ML-DSA-44 with which the log cosigns what it publishes (type 0x06)."""


class WitnessPolicyError(MalformedError):
    """The text isn't a trust policy."""

    code = "witness-policy-malformed"


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness by the name that the policy gives it; ``url`` is where it takes submissions, if that is said."""

    name: str
    key: CosignerKey
    url: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses a checkpoint once ``threshold`` of ``members`` (witnesses and groups) do."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """A policy. ``quorum`` is the name of a witness or a group, or None where no cosignature is asked for."""

    logs: tuple[LogKey, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str | None

    @classmethod
    def parse(cls, data: bytes) -> WitnessPolicy:
        """Read a policy; each line ends in a newline.

        :raises WitnessPolicyError: anything that the specification doesn't allow, or a key that isn't one.
        """
        if len(data) > MAX_POLICY:
            raise WitnessPolicyError(f"a witness policy has at most {MAX_POLICY} bytes")
        # Bytes above 0x7F are opaque in names, addresses and comments: they are carried, not understood.
        text = data.decode("utf-8", "surrogateescape")
        if _FOREIGN.search(text):
            raise WitnessPolicyError("a witness policy holds no control character but tab and newline")
        lines = text.split("\n")
        if lines.pop():
            raise WitnessPolicyError("each line of a witness policy ends in a newline")
        draft = _Draft()
        for number, line in enumerate(lines, 1):
            words = [word for word in re.split(r"[ \t]+", line) if word]
            if words and not words[0].startswith("#"):
                try:
                    draft.take(words)
                except MalformedError as error:
                    raise WitnessPolicyError(f"line {number} of the witness policy: {error.message}") from None
        if draft.quorum is None:
            raise WitnessPolicyError("a witness policy has one `quorum` line")
        quorum = None if draft.quorum == NONE else draft.quorum
        return cls(tuple(draft.logs), tuple(draft.witnesses), tuple(draft.groups), quorum)

    def met_by(self, names: Collection[str]) -> bool:
        """Whether the witnesses called ``names`` make the quorum."""
        if self.quorum is None:
            return True
        seen = {witness.name for witness in self.witnesses} & set(names)
        for group in self.groups:
            if sum(member in seen for member in group.members) >= group.threshold:
                seen.add(group.name)
        return self.quorum in seen

    def quorum_at(self, cosignatures: Iterable[Cosignature], *, until: Instant) -> Instant | None:
        """Return the latest time since which cosignatures make the quorum, or None if they don't, or none is asked for.

        What states a time after ``until`` isn't counted.
        """
        names = {witness.key: witness.name for witness in self.witnesses}
        counted: set[str] = set()
        for one in sorted(cosignatures, key=lambda one: one.at, reverse=True):
            if 0 < one.at <= until and one.key in names:
                counted.add(names[one.key])
                if self.quorum is not None and self.met_by(counted):
                    return one.at
        return None


@dataclass(slots=True)
class _Draft:
    """What the lines so far define."""

    logs: list[LogKey] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    quorum: str | None = None
    names: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    log_keys: set[bytes] = field(default_factory=set)

    def take(self, words: list[str]) -> None:
        kinds: Mapping[str, Callable[[list[str]], None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum,
        }
        if words[0] not in kinds:
            raise MalformedError("a line begins with `log`, `witness`, `group` or `quorum`")
        kinds[words[0]](words[1:])

    def _log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise MalformedError("a log is written `log <vkey> [<url>]`")
        key = read_log_key(words[0])
        raw = key.public_key.raw if isinstance(key, VerifierKey) else key.raw
        self._once(self.log_keys, raw, "the log's key stands on an earlier line")
        self._room(self.logs)
        self.logs.append(key)

    def _witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise MalformedError("a witness is written `witness <name> <vkey> [<url>]`")
        key = CosignerKey.parse(words[1])
        # By the bytes of the key: one witness under two names would be counted twice.
        self._once(self.keys, key.raw, "the witness's key stands on an earlier line")
        self._define(words[0])
        self._room(self.witnesses)
        self.witnesses.append(Witness(words[0], key, words[2] if len(words) == 3 else None))

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise MalformedError("a group is written `group <name> all|any|<k> <name>...`")
        name, rule, *members = words
        thresholds = {"all": len(members), "any": 1}
        if rule not in thresholds and not _NUMBER.fullmatch(rule):
            raise MalformedError("a group asks for `all`, `any` or a number of its members")
        threshold = thresholds.get(rule) or int(rule)
        if threshold > len(members):
            raise MalformedError("a group asks for more members than it has")
        for member in members:
            if member not in self.names:
                raise MalformedError("a group's member isn't defined on an earlier line")
            # Each name is a member once in the whole policy: nobody is counted in two ways.
            self._once(self.members, member, "a name is a member of groups once")
        self._define(name)
        self._room(self.groups)
        self.groups.append(Group(name, threshold, tuple(members)))

    def _quorum(self, words: list[str]) -> None:
        if len(words) != 1:
            raise MalformedError("the quorum is written `quorum <name>` or `quorum none`")
        if self.quorum is not None:
            raise MalformedError("a witness policy has one `quorum` line")
        if words[0] != NONE and words[0] not in self.names:
            raise MalformedError("the quorum isn't defined on an earlier line")
        self.quorum = words[0]

    def _define(self, name: str) -> None:
        if name == NONE:
            raise MalformedError("`none` can't be the name of a witness or a group")
        self._once(self.names, name, "the name is defined on an earlier line")

    @staticmethod
    def _once(seen: set[str] | set[bytes], value: str | bytes, otherwise: str) -> None:
        if value in seen:
            raise MalformedError(otherwise)
        seen.add(value)  # type: ignore[arg-type]  # each set holds one kind of value

    @staticmethod
    def _room(defined: list[LogKey] | list[Witness] | list[Group]) -> None:
        if len(defined) >= MAX_OF_A_KIND:
            raise MalformedError(f"at most {MAX_OF_A_KIND} lines of this kind are read")


def read_log_key(text: str) -> LogKey:
    """Read the verifier key of a log, of type 0x01 or 0x06.

    :raises MalformedError: another form or type; an Ed25519 cosigner (0x04) is no log.
    """
    try:
        return VerifierKey.parse(text)
    except MalformedError:
        key = CosignerKey.parse(text)
    if len(key.raw) == 32:
        raise MalformedError("a log's key is of type 0x01 (Ed25519) or 0x06 (ML-DSA-44)")
    return key


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A believed checkpoint: the witnesses that cosigned it, by the policy's names, and since when they are a quorum.

    ``quorum_at`` is None where the policy asks for no cosignature.
    """

    checkpoint: Checkpoint
    counted: Mapping[str, Instant]
    quorum_at: Instant | None


def signed_checkpoint(note: Note, keys: Collection[LogKey]) -> Checkpoint:
    """Check that a log's key signed the note, and return the checkpoint. Lines by other keys are ignored.

    :raises CosignatureOtherLogError: no key of ``keys`` is of the note's log.
    :raises WrongKeyError: none of the log's keys signed. :raises ForgedCheckpointError: one is named and didn't.
    :raises MalformedError: the text isn't a checkpoint.
    """
    origin = note.text.partition("\n")[0]
    mine = [key for key in keys if key.name == origin]
    if not mine:
        raise CosignatureOtherLogError("the checkpoint is of a log that isn't among the trusted ones")
    signed = False
    for key in mine:
        if isinstance(key, VerifierKey):
            try:
                note.verify(key)
                signed = True
            except NoteError as error:
                if error.reason != "note-key-absent":
                    raise ForgedCheckpointError("the checkpoint's signature by the log's key doesn't verify") from None
        elif any(key.signed_by(signature) for signature in note.signatures):
            read_cosignatures(note, Checkpoint.parse_text(note.text), (key,))
            signed = True
    if not signed:
        raise WrongKeyError("the checkpoint isn't signed by a key of its log")
    return Checkpoint.parse_text(note.text)


def check_note(
    data: bytes, policy: WitnessPolicy, *, now: Instant, log: LogKey | None = None, since: Instant | None = None
) -> Witnessed:
    """Check a checkpoint against a policy: a listed log signed it, and its witnesses are a quorum.

    :param log: the log that is meant, known from elsewhere; it takes the place of the policy's list.
    :param since: cosignatures from before this time aren't counted. None counts them however old they are.
    :raises MalformedError: not a checkpoint. :raises CosignatureOtherLogError: another log's.
    :raises WrongKeyError: not signed by the log. :raises ForgedCheckpointError: the log's signature doesn't verify.
    :raises CosignatureForgedError: a named witness's line doesn't verify.
    :raises CosignatureFromFutureError: only with times that haven't come would the quorum be met.
    :raises QuorumMissingError: too few witnesses.
    """
    note = Note.parse(data)
    checkpoint = signed_checkpoint(note, policy.logs if log is None else (log,))
    found = read_cosignatures(note, checkpoint, [witness.key for witness in policy.witnesses])
    names = {witness.key: witness.name for witness in policy.witnesses}
    good = [one for one in found if 0 < one.at <= now + CLOCK_SKEW and (since is None or one.at >= since)]
    counted = {names[one.key]: one.at for one in good}
    if not policy.met_by(counted):
        if policy.met_by({names[one.key] for one in found if one.at and (since is None or one.at >= since)}):
            raise CosignatureFromFutureError("witnesses cosigned the checkpoint at a time that hasn't come")
        raise QuorumMissingError(
            f"{len(counted)} of {len(policy.witnesses)} witnesses cosigned the checkpoint of {checkpoint.size} entries,"
            " and they are no quorum",
            remedy="the log writer says at each round which witnesses did not answer: read its output",
        )
    return Witnessed(checkpoint, counted, policy.quorum_at(good, until=now + CLOCK_SKEW))
