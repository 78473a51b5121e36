"""SCIM's own conformance tester finds nothing wrong, over TLS; the library's contract for storages holds too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import ScimProvider
from scim2_server.testing import AsyncScimStorageContract
from scim2_server.utils import load_default_provider
from scim2_tester import Status, check_server

from strongroom.broker.people.lowering import Lowering
from strongroom.broker.people.scim_storage import PeopleStorage
from strongroom.broker.people.wiring import open_directory
from strongroom.core.clock import SystemClock
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import SuspensionCause
from support.people_server import people_server, prepared

pytestmark = pytest.mark.integration


def test_every_check_of_the_conformance_tester_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with people_server(prepared(tmp_path)) as server, server.client() as client:
        results = check_server(SyncSCIMClient(client))
    failed = [result for result in results if result.status is not Status.SUCCESS]
    with capsys.disabled():
        print(f"\n{len(results) - len(failed)} of {len(results)} checks passed")  # noqa: T201 - a number for people
    assert failed == []
    # As many as there were when this was written: a tester that finds nothing to check passes nothing.
    assert len(results) >= 145


async def nobody(_person: PersonId) -> bool:
    return False


async def nothing(_person: PersonId, _cause: SuspensionCause) -> None:
    return None


class TestStorageContract(AsyncScimStorageContract):
    """What the SCIM library asks of a storage."""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> ScimProvider:
        # No test changes it, and making its classes takes seconds where many modules are loaded.
        return load_default_provider()

    @pytest.fixture
    def async_storage(self, tmp_path: Path, provider: ScimProvider) -> Iterator[Any]:
        directory, store, _keys = open_directory(tmp_path)
        yield PeopleStorage(
            directory,
            provider,
            Lowering(knows=nobody, suspend=nothing),
            clock=SystemClock(),
            new_id=lambda: os.urandom(16).hex(),
        )
        store.close()
