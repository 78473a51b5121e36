"""Each shard in a schema of its own, in one database: written, verified and gone on with after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.logs import found_home, log_writer
from support.postgres import Cluster
from support.turning import Hand

pytestmark = pytest.mark.integration


def test_a_log_in_postgres_turns_and_starts_again(postgres: Cluster, tmp_path: Path) -> None:
    home, _key, genesis = found_home(tmp_path / "home")
    hand, name = Hand(home, genesis), postgres.choose(home)
    with log_writer(home) as process, hand.client() as client:
        hand.ordinary(client, 3)
        hand.turn(client)
        client.append([hand.closing(client, client.prepare())])
        process.kill()
        process.wait(20)
    with log_writer(home), hand.client() as client:
        client.append([hand.opening(client)])
        hand.ordinary(client, 2)
        assert len(client.read(0, 256)) == 5
        client.flush()
    assert [one.checkpoint.size for one in hand.verified().reports] == [5, 2, 3]
    found = postgres.sql(name, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'strongroom%' ORDER BY 1")
    assert found.split() == ["strongroom_log", "strongroom_log_2", "strongroom_log_3"]


def test_a_second_writer_is_kept_out_of_every_shard(postgres: Cluster, tmp_path: Path) -> None:
    home, _key, genesis = found_home(tmp_path / "home")
    hand, name = Hand(home, genesis), postgres.choose(home)
    with log_writer(home), hand.client() as client:
        hand.ordinary(client)
        hand.turn(client)
        held = postgres.sql(name, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        assert held.split() == ["2"]
