"""The SCIM library's storage over our directory. A lowering has taken effect before the record is written.

That order loses nothing: when the keeper can't be reached nothing is written and the provider asks again; when the
process dies in between, the provider got no answer, asks again, and the keeper suspends who is suspended already.

Importing this needs the extra ``scim``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from scim2_models import (
    NotFoundException,
    PatchOp,
    PreconditionFailedException,
    Resource,
    ResourceType,
    ResponseParameters,
    SCIMException,
    ScimFilter,
    ScimProvider,
    SearchRequest,
    UniquenessException,
)
from scim2_models.path import CompareOperator, Comparison
from scim2_server.conditions import Conditions
from scim2_server.handler import AsyncScimHandler
from scim2_server.memory import InMemoryStorage
from scim2_server.storage import AsyncScimStorage, SearchPage

from strongroom.broker.people.directory import Directory
from strongroom.broker.people.errors import TakenError
from strongroom.broker.people.lowering import Lowering
from strongroom.broker.people.matching import fold
from strongroom.broker.people.records import MAX_PERSONS, Lookup, LookupName, Record, RecordKind
from strongroom.broker.people.scim_users import (
    NOT_STORED,
    is_group,
    lookups_of,
    lowered,
    members_of,
    names_of,
)
from strongroom.core.clock import Clock
from strongroom.core.errors import MalformedError, StrongroomError, TamperedError
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import SuspensionCause

T = TypeVar("T")
_KINDS: Final = {"User": RecordKind.USER, "Group": RecordKind.GROUP}
_INDEXED: Final = {
    (RecordKind.USER, "username"): LookupName.USER_NAME,
    (RecordKind.USER, "externalid"): LookupName.EXTERNAL_ID,
    (RecordKind.GROUP, "externalid"): LookupName.EXTERNAL_ID,
    (RecordKind.GROUP, "displayname"): LookupName.DISPLAY_NAME,
}
_EXACT: Final = frozenset({LookupName.EXTERNAL_ID})
_log = structlog.get_logger("strongroom.broker.people")


class AskAgainError(SCIMException):
    """Nothing was done: the provider is to send the same again."""

    status = 503
    _default_detail = "nothing was done; send it again"


class StoredRecordError(SCIMException):
    """A stored record isn't what was stored."""

    status = 500
    _default_detail = "a stored record can't be believed"


class TooLargeError(SCIMException):
    """A resource is larger than may be stored."""

    status = 413
    _default_detail = "the resource is larger than may be stored"


class PeopleStorage(AsyncScimStorage):
    """Users and groups. One write at a time, each read and written whole."""

    def __init__(
        self,
        directory: Directory,
        provider: ScimProvider,
        lowering: Lowering,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        members_group: str | None = None,
    ) -> None:
        self._directory = directory
        self._provider = provider
        self._lowering = lowering
        self._clock = clock
        self._new_id = new_id
        self._members_group = members_group
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Hold the pen: what is read inside is what will be written over."""
        async with self._writing:
            yield

    # --- reading ------------------------------------------------------------------------------------------------------

    async def get(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        response_parameters: ResponseParameters[Any] | None = None,
    ) -> Resource[Any]:
        """Return a resource."""
        del response_parameters  # the server leaves out what isn't wanted
        return self._resource(resource_type, await self._record(resource_type, resource_id))

    async def search(
        self, resource_types: list[ResourceType], search_request: SearchRequest[Any], *, position: Any = None
    ) -> SearchPage:
        """Return a page of the resources that match."""
        # Off the event loop, all of it: to read every record takes a second, which releases mustn't wait for.
        return await _off_loop(lambda: self._searched(resource_types, search_request, position))

    def _searched(self, kinds: list[ResourceType], search_request: SearchRequest[Any], position: Any) -> SearchPage:
        if len(kinds) == 1 and search_request.filter is None and search_request.sort_by is None:
            offset, limit = search_request.start_index_0 or 0, search_request.count
            total, records = self._directory.page(_kind(kinds[0]), offset=offset, limit=limit)
            return SearchPage(total, [self._resource(kinds[0], record) for record in records])
        memory = InMemoryStorage()
        memory.resources = [
            self._resource(kind, record) for kind in kinds for record in self._candidates(kind, search_request.filter)
        ]
        return memory.search(kinds, search_request, position=position)

    def _candidates(self, kind: ResourceType, wanted: ScimFilter[Any] | None) -> Sequence[Record]:
        lookup = _lookup(_kind(kind), wanted)
        if lookup is not None:
            return self._directory.find(_kind(kind), lookup)
        return self._directory.page(_kind(kind), offset=0, limit=None)[1]

    async def _record(self, resource_type: ResourceType, resource_id: str | None) -> Record:
        record = await _off_loop(lambda: self._directory.get(_kind(resource_type), str(resource_id)))
        if record is None:
            raise NotFoundException(detail="there is no such resource")
        return record

    def _resource(self, resource_type: ResourceType, record: Record) -> Resource[Any]:
        model: Any = self._provider.model_for(resource_type)
        resource: Resource[Any] = model.model_validate(json.loads(record.resource), scim_provider=self._provider)
        return resource

    # --- writing ------------------------------------------------------------------------------------------------------

    async def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        """Store a new resource; one that is born inactive suspends its person."""
        now = self._now()
        meta = {"resourceType": resource_type.name, "created": now, "lastModified": now, "version": self._version()}
        data = {**_data(resource), "id": self._new_id(), "meta": meta}
        async with self.writing():
            return self._resource(resource_type, await self._write(resource_type, data, None))

    async def update(
        self, resource_type: ResourceType, resource: Resource[Any], *, expected_version: str | None = None
    ) -> Resource[Any]:
        """Replace a stored resource. The lowering that it stands for is carried out even when nothing changes."""
        before = await self._record(resource_type, resource.id)
        meta = _meta_of(before, expected_version)
        meta = {**meta, "lastModified": self._now(), "version": self._version()}
        data = {**_data(resource), "id": before.id, "meta": meta}
        return self._resource(resource_type, await self._write(resource_type, data, before))

    async def delete(
        self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None
    ) -> None:
        """Delete a resource: a user's person is suspended, and of the group of members everybody."""
        before = await self._record(resource_type, resource_id)
        _meta_of(before, expected_version)
        with _told():
            if before.kind is RecordKind.USER:
                names = names_of(json.loads(before.resource))
                await self._lowering.lower(before.persons, SuspensionCause.LEFT, source=before.id, names=names)
            else:
                await self._lower_removed(before, {})
        await _off_loop(lambda: self._directory.remove(before.id))

    async def _write(self, resource_type: ResourceType, data: dict[str, Any], before: Record | None) -> Record:
        kind = _kind(resource_type)
        with _told():
            record = await self._drafted(kind, data, before)
            # Whatever can fail without the keeper fails first: then nothing has happened yet.
            if not await _off_loop(lambda: self._directory.free(record)):
                raise UniquenessException
            if kind is RecordKind.USER:
                cause = lowered(data)
                if cause is not None:
                    await self._lowering.lower(record.persons, cause, source=record.id, names=names_of(data))
            elif before is not None:
                await self._lower_removed(before, data)
        if before is not None and _unchanged(before, record):
            return before
        await _off_loop(lambda: self._directory.put(record))
        return record

    async def _drafted(self, kind: RecordKind, data: dict[str, Any], before: Record | None) -> Record:
        persons = before.persons if before else ()
        if kind is RecordKind.USER:
            person = await self._person(data)
            if person is not None and person not in persons:
                # Never forgotten, or a renamed user would leave somebody behind whom nobody can let go.
                persons = (*persons, person)
        if len(persons) > MAX_PERSONS:
            raise TooLargeError(detail="one user can't stand for so many people, one after the other")
        named = {Lookup(LookupName.PERSON, person) for person in persons}
        return Record(
            kind=kind,
            id=data["id"],
            resource=json.dumps(data, separators=(",", ":")),
            persons=persons,
            lookups=tuple(sorted({*lookups_of(kind, data), *named})),
        )

    async def _person(self, data: dict[str, Any]) -> PersonId | None:
        try:
            return await self._lowering.person(names_of(data))
        except StrongroomError:
            # A store that hides the roster must not keep a leaver in: the keeper itself is asked by the names then.
            if lowered(data) is None:
                raise
            return None

    async def _lower_removed(self, before: Record, data: dict[str, Any]) -> None:
        """Suspend who is in the group of members no more; a group that is renamed loses everybody."""
        old = json.loads(before.resource)
        if not is_group(old, self._members_group):
            return
        kept = members_of(data) if is_group(data, self._members_group) else frozenset()
        for member in sorted(members_of(old) - kept):
            user = await _off_loop(partial(self._directory.get, RecordKind.USER, member))
            if user is not None:
                names = names_of(json.loads(user.resource))
                await self._lowering.lower(user.persons, SuspensionCause.REMOVED, source=user.id, names=names)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now(), UTC).isoformat()

    def _version(self) -> str:
        return f'W/"{self._new_id()}"'


class PeopleHandler(AsyncScimHandler):
    """The library's handler, with each change read and written under one lock, and no change passed over.

    The library skips a change that changes nothing. Here such a one is carried out too: a row could be an older state,
    put back to hide that its person was never suspended.
    """

    def __init__(self, service: Any, storage: PeopleStorage) -> None:
        super().__init__(service, storage)
        self._people = storage

    async def replace_resource(
        self,
        resource_type: ResourceType,
        current: Resource[Any],
        replacement: Resource[Any],
        conditions: Conditions,
    ) -> Resource[Any]:
        """Replace a resource."""
        async with self._people.writing():
            current = await self._people.get(resource_type, str(current.id))
            wanted = self.service.apply_replacement(current, replacement, conditions) or current
            return await self._people.update(resource_type, wanted)

    async def patch_resource(
        self, resource_type: ResourceType, resource_id: str, patch_op: PatchOp[Any], conditions: Conditions
    ) -> Resource[Any]:
        """Change a resource."""
        async with self._people.writing():
            current = await self._people.get(resource_type, resource_id)
            wanted = self.service.apply_patch(current, patch_op, conditions) or current
            return await self._people.update(resource_type, wanted)

    async def delete_resource(self, resource_type: ResourceType, resource_id: str, conditions: Conditions) -> None:
        """Delete a resource."""
        async with self._people.writing():
            await super().delete_resource(resource_type, resource_id, conditions)


class _Told:
    """Turns our refusals into SCIM's; see :func:`_told`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case TakenError():
                raise UniquenessException from None
            case MalformedError():
                raise TooLargeError from None
            case TamperedError():
                _log.error("record refused", code=error.reason)
                raise StoredRecordError from None
            case StrongroomError():
                _log.error("not done", code=error.reason)
                raise AskAgainError from None


def _told() -> _Told:
    return _Told()


async def _off_loop(read: Callable[[], T]) -> T:
    with _told():
        return await asyncio.to_thread(read)


def _kind(resource_type: ResourceType) -> RecordKind:
    return _KINDS[str(resource_type.name)]


def _data(resource: Resource[Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(resource.model_dump_json())
    for name in NOT_STORED:
        data.pop(name, None)
    return data


def _meta_of(record: Record, expected_version: str | None) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads(record.resource)["meta"]
    if expected_version is not None and meta["version"] != expected_version:
        raise PreconditionFailedException
    return meta


def _unchanged(before: Record, after: Record) -> bool:
    old, new = json.loads(before.resource), json.loads(after.resource)
    old.pop("meta")
    new.pop("meta")
    return bool(old == new) and before.persons == after.persons


def _lookup(kind: RecordKind, wanted: ScimFilter[Any] | None) -> Lookup | None:
    """Return the look-up that a filter of the form ``name eq "value"`` amounts to."""
    node = None if wanted is None else wanted.ast
    if not isinstance(node, Comparison) or node.op is not CompareOperator.eq or not isinstance(node.value, str):
        return None
    path = node.attr_path
    if path.sub_attr is not None or path.uri is not None:
        return None
    name = _INDEXED.get((kind, path.attr.lower()))
    return None if name is None else Lookup(name, node.value if name in _EXACT else fold(node.value))
