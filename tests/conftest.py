"""Fixtures for all Python tests: one `stanchion dev` for the session, and servers of a test's own.

With SERVER_UNDER_TEST=temporal the shared server is the real one: that is how the tests themselves are checked.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from temporalio.client import Client

from harness import servers
from harness.wire import Wire


@pytest.fixture(scope="session")
def stanchion() -> Iterator[servers.Server]:
    """`stanchion dev --ephemeral` that all tests share.

    At the end the histories of whatever they did break no rule, and SIGTERM is answered with exit code 0.
    """
    real = os.environ.get("SERVER_UNDER_TEST") == "temporal"
    server = servers.start_temporal() if real else servers.start_stanchion()
    yield server
    assert server.process.poll() is None, f"the shared server died:\n{server.words()}"
    verified = subprocess.run(
        [servers.stanchion_bin(), "verify", "--address", server.grpc], capture_output=True, text=True, timeout=120, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
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


@pytest.fixture
async def wire(stanchion: servers.Server) -> AsyncIterator[Wire]:
    """A raw gRPC channel to the shared server."""
    wire = Wire(stanchion.grpc)
    yield wire
    await wire.close()


@pytest.fixture
async def client(stanchion: servers.Server) -> Client:
    """The SDK's client of the shared server."""
    return await Client.connect(stanchion.grpc)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name for this test's workflow and queue on the shared server."""
    return f"{request.node.name[:60]}-{uuid.uuid4().hex[:8]}"
