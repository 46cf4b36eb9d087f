"""Fixtures for the tests against real peers: servers on free ports, and one browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import Browser
from numbered import FILE_S, write_file
from sluice import TARGET, Server, io_uring_allowed


@pytest.fixture
def start_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Starts servers that are stopped after the test; arguments as those of `Server`."""
    servers: list[Server] = []
    name = re.sub(r"[^A-Za-z0-9-]+", "_", request.node.name).strip("_")

    def start(*flags: str, **options: str) -> Server:
        log = TARGET / "test-logs" / f"{name}-{len(servers)}.log"
        servers.append(Server(log, *flags, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(params=["uring", "mmsg"])
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a back-end; skips the test where the kernel refuses io_uring."""
    if request.param == "uring" and not io_uring_allowed():
        pytest.skip("this kernel or container refuses io_uring")
    return request.param


@pytest.fixture(scope="session")
def media_file() -> Path:
    """A file with numbered pictures and a tone."""
    path = TARGET / "test-media" / f"numbered-{FILE_S}s.webm"
    write_file(path, FILE_S)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser process for all tests; each page in it has a window and storage of its own."""
    with Browser() as started:
        yield started
