"""A `sluice serve` process on ports of its own."""

from __future__ import annotations

import ctypes
import json
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = Path(os.environ.get("SLUICE_BIN", TARGET / "debug" / "sluice"))

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
IO_URING_SETUP = 425  # the same number on every architecture


class ServerError(Exception):
    """The server did not start, or ended when it should not."""


def io_uring_allowed() -> bool:
    """Whether this kernel and container let a program make a ring, found out without the server."""
    parameters = ctypes.create_string_buffer(120)
    ring = ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 4, parameters)
    if ring >= 0:
        os.close(ring)
    return ring >= 0


def free_port(host: str) -> int:
    """A port that is free for UDP and TCP, below those that the kernel gives to clients."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(family, kind) as probe:
                    probe.bind((host, port))
            return port
        except OSError:
            continue
    raise ServerError("no free port was found")


class Server:
    """Runs until `close`; its output goes to a file that failures quote."""

    def __init__(
        self, log: Path, *flags: str, host: str = "127.0.0.1", token: str | None = None
    ) -> None:
        if not BINARY.exists():
            raise ServerError(f"{BINARY} is missing; build it with `cargo build` or set SLUICE_BIN")
        authority = f"[{host}]" if ":" in host else host
        port, media_port = free_port(host), free_port(host)
        while media_port == port:
            media_port = free_port(host)
        self.url = f"http://{authority}:{port}"
        self.media_port = media_port
        self._token = token
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RTCD_", "SLUICE_"))
        }
        # The default directory is for one server on a machine.
        environment["RTCD_STORE_DATASOURCE"] = str(log.parent / f"store-{port}")
        if token:
            environment["SLUICE_API_TOKEN"] = token
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [
                    str(BINARY),
                    "serve",
                    f"--listen-address={authority}:{port}",
                    f"--ice-address-udp={host}",
                    f"--ice-address-tcp={host}",
                    f"--ice-port-udp={media_port}",
                    f"--ice-port-tcp={media_port}",
                    "--drain-timeout=0",  # a test may end with sessions open
                    *flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=log.parent,
            )
        try:
            self._wait_until_ready()
        except Exception:
            self._process.kill()
            self._process.wait()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"sluice ended at start:\n{self.log_tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise ServerError(f"sluice was not ready in {START_TIMEOUT_S} s:\n{self.log_tail()}")

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON body of a GET; refusals are answers too."""
        request = urllib.request.Request(self.url + path)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read() or b"null")

    def log_tail(self) -> str:
        """The last lines that the server wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])

    def close(self) -> None:
        """Stops the server as an operator would, and insists that it ends well."""
        died_early = self._process.poll() is not None
        self._process.terminate()
        try:
            status = self._process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerError(f"sluice did not stop:\n{self.log_tail()}") from None
        if died_early or status != 0:
            raise ServerError(f"sluice ended with status {status}:\n{self.log_tail()}")
