"""What the container image brings beside the programs."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable

import pytest
from sluice import ROOT, Server, free_port

DOCKER = ROOT / "packaging" / "docker"


def health(address: str) -> int:
    """Status of the image's health check for a server that listens on `address`."""
    environment = os.environ | {"RTCD_API_HTTP_LISTENADDRESS": address}
    return subprocess.run(
        [str(DOCKER / "healthcheck")], env=environment, stderr=subprocess.DEVNULL, timeout=10
    ).returncode


@pytest.mark.parametrize("written", ["127.0.0.1:{}", ":{}", "0.0.0.0:{}"])
def test_a_server_that_answers_is_healthy(
    start_server: Callable[..., Server], written: str
) -> None:
    port = start_server().url.rpartition(":")[2]
    assert health(written.format(port)) == 0


def test_a_server_that_drains_is_healthy(start_server: Callable[..., Server]) -> None:
    server = start_server()
    request = urllib.request.Request(f"{server.url}/v1/node/drain", method="POST")
    urllib.request.urlopen(request, timeout=5).close()
    assert server.get("/v1/node")[1]["state"] == "draining"
    assert health(server.url.removeprefix("http://")) == 0


def test_a_port_without_a_server_is_not_healthy() -> None:
    assert health(f"127.0.0.1:{free_port('127.0.0.1')}") != 0


def test_the_seccomp_profile_lets_io_uring_through_and_no_new_namespaces() -> None:
    profile = json.loads((DOCKER / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    freely = {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register", "perf_event_open"} <= freely
    assert freely.isdisjoint({"unshare", "setns", "mount", "ptrace", "bpf", "clone", "clone3"})
