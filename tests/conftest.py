"""What holds for every test: no network, no plaintext of chance, a bounded number of examples."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import disable_socket, socket_allow_hosts

from support.examples import examples
from support.postgres import Cluster, programs

settings.register_profile(
    "here",
    deadline=None,  # the machine is shared: a slow example isn't a wrong one
    max_examples=examples(75),
    suppress_health_check=[HealthCheck.too_slow],
)
# In CI the examples are a function of the test alone: a red run is red again on one's own machine.
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage once all is collected, and at what the tests make only.

    What is collected stays until the end, a million objects: to look through them took a tenth of the time, and again
    whenever a test left enough behind.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take sockets away. An integration test may talk to what it started itself: loopback and Unix sockets."""
    if item.get_closest_marker("integration"):
        socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    else:
        disable_socket(allow_unix_socket=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """Return a PostgreSQL cluster of the tests' own, on a Unix socket in a temporary folder."""
    if programs() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    cluster = Cluster.create()
    yield cluster
    cluster.remove()
