"""Fixtures for all Python tests: one `stanchion dev` for the session, and servers of a test's own. Never starts the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness import servers


@pytest.fixture(scope="session")
def stanchion() -> Iterator[servers.Server]:
    """`stanchion dev --ephemeral` that all tests share; at the end it must answer SIGTERM with exit code 0."""
    server = servers.start_stanchion()
    yield server
    assert server.process.poll() is None, f"the shared server died:\n{server.words()}"
    assert server.stop() == 0


@pytest.fixture
def start_server() -> Iterator[Callable[..., servers.Server]]:
    """Starts servers for one test, as `servers.start_stanchion`; what still runs at its end is killed."""
    started: list[servers.Server] = []

    def start(*args: object, **options: object) -> servers.Server:
        server = servers.start_stanchion(*args, **options)  # type: ignore[arg-type]
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()
