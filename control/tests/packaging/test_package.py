"""The Debian package, installed in a layer over this system: what it brings, that it serves, and that it goes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sandbox import ENVIRONMENT, Sandbox, SandboxError, allowed
from sluice import ROOT, TARGET, free_port

# The first run builds cargo-deb.
pytestmark = pytest.mark.timeout(600)

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"
NAME = "sluice-sfu"
CONFIG = "/etc/sluice/config.toml"
UNIT = "/usr/lib/systemd/system/sluice.service"
# The unit's user exists only under systemd.
NOBODY = "65534:65534"
# `systemd-analyze security` in tenths; what is missing to zero is the network, /proc, and the calls named in the unit.
EXPOSURE_MAX = 15
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


@pytest.fixture(scope="session")
def package() -> Path:
    """The package of the development build."""
    subprocess.run(
        [str(ROOT / "scripts/need"), "systemd-analyze=systemd", "unshare=util-linux"], check=True
    )
    environment = os.environ | {"CARGO_TARGET_DIR": str(TARGET)}
    built = subprocess.run(
        [str(ROOT / "scripts/package"), "--debug"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    return Path(built.stdout.strip())


@pytest.fixture
def sandbox(package: Path, tmp_path: Path) -> Iterator[Sandbox]:
    """A layer over this system in which the package lies as /sluice.deb and is not installed."""
    if not allowed():
        pytest.skip("installing a package beside this system takes root and leave to mount")
    try:
        box = Sandbox(tmp_path)
    except SandboxError as refusal:
        # An overlay over an overlay, or a root that may not mount.
        pytest.skip(str(refusal))
    try:
        box.try_to("dpkg", "--purge", NAME, "sluice")
        box.put(package.read_bytes(), "/sluice.deb")
        yield box
    finally:
        box.close()


def field(package: Path, name: str) -> str:
    """A field of the package's control file."""
    asked = ["dpkg-deb", "--field", str(package), name]
    return subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@contextmanager
def served(sandbox: Sandbox, log: Path) -> Iterator[str]:
    """The installed server with the installed configuration; only its addresses are others. Yields its URL."""
    url, media = f"{HOST}:{free_port(HOST)}", free_port(HOST)
    addresses = [
        f"--listen-address={url}",
        f"--ice-address-udp={HOST}",
        f"--ice-address-tcp={HOST}",
    ]
    ports = [f"--ice-port-udp={media}", f"--ice-port-tcp={media}"]
    with open(log, "wb") as output:
        server = subprocess.Popen(
            sandbox.command(
                "/usr/bin/sluice", "serve", "--config", CONFIG, *addresses, *ports, user=NOBODY
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready(f"http://{url}"):
            assert server.poll() is None, f"the server ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"the server is not ready: {log.read_text()}"
            time.sleep(0.05)
        yield f"http://{url}"
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=STOP_TIMEOUT_S) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()


def is_ready(url: str) -> bool:
    """Whether a server answers that it takes calls."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_the_package_says_what_it_needs_and_what_is_the_operators(package: Path) -> None:
    assert field(package, "Package") == NAME
    assert field(package, "Version").startswith(VERSION)
    assert "libc6" in field(package, "Depends")
    assert "ethtool" in field(package, "Recommends")
    assert field(package, "Conflicts") == "sluice", "Debian's own, with a program of the same name"
    conffiles = subprocess.run(
        ["dpkg-deb", "--info", str(package), "conffiles"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert conffiles.stdout.split() == [CONFIG]


def test_the_package_brings_programs_unit_and_documents(package: Path) -> None:
    listed = subprocess.run(
        ["dpkg-deb", "--contents", str(package)], stdout=subprocess.PIPE, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    files = {
        row[5].removeprefix("."): (row[0], row[1]) for row in rows if not row[0].startswith("d")
    }
    for program in ("sluice", "sluice-tune", "sluice-bench"):
        assert files[f"/usr/bin/{program}"] == ("-rwxr-xr-x", "0/0"), program
    documents = [
        f"/usr/share/doc/sluice-sfu/docs/{page.name}" for page in (ROOT / "docs").glob("*.md")
    ]
    assert len(documents) > 5, "there are documents"
    for path in [UNIT, CONFIG, *documents]:
        assert files[path] == ("-rw-r--r--", "0/0"), path
    assert "/usr/share/doc/sluice-sfu/copyright" in files


def test_links_of_the_documents_lead_to_documents(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True)
    pages = list((tmp_path / "usr/share/doc/sluice-sfu").rglob("*.md"))
    links = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert len(pages) > 10, "there are documents"
    assert links == []


def test_every_line_of_the_configuration_is_right(sandbox: Sandbox) -> None:
    sandbox.run("dpkg", "-i", "/sluice.deb")
    assert sandbox.run("sluice", "config", "--check", CONFIG) == f"{CONFIG} is right\n"
    text = sandbox.run("cat", CONFIG)
    offered = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert offered != text, "some settings are only offered"
    sandbox.put(offered, "/offered.toml")
    # An unknown key would be named before that.
    assert sandbox.run("sluice", "config", "--check", "/offered.toml") == "/offered.toml is right\n"


def test_the_installed_server_serves(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.run("dpkg", "-i", "/sluice.deb")
    for program in ("sluice", "sluice-tune", "sluice-bench"):
        assert VERSION in sandbox.run(program, "--version"), program
    # What StateDirectory= of the unit makes.
    sandbox.run("install", "--directory", "--owner=65534", "--mode=0700", "/var/lib/sluice")
    with served(sandbox, tmp_path / "server.log") as url:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            assert b"sluice_build_info" in answer.read()
    assert sandbox.run("ls", "/var/lib/sluice").split() == ["sluice.redb"]


def test_systemd_takes_the_unit_and_finds_it_well_shut(sandbox: Sandbox) -> None:
    sandbox.run("dpkg", "-i", "/sluice.deb")
    # Other units of this system may have faults of their own.
    verified = sandbox.try_to("systemd-analyze", "verify", UNIT)
    assert "sluice" not in verified.stdout, verified.stdout
    sandbox.run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", UNIT
    )


def test_the_unit_waits_longer_than_calls_may_go_on(sandbox: Sandbox) -> None:
    sandbox.run("dpkg", "-i", "/sluice.deb")
    patience = re.search(r"^TimeoutStopSec=(.*)$", sandbox.run("cat", UNIT), re.MULTILINE)[1]
    patience_us = int(
        re.search(r"μs: (\d+)", sandbox.run("systemd-analyze", "timespan", patience))[1]
    )
    defaults = tomllib.loads(sandbox.run("sluice", "config", "--print-default"))
    assert patience_us > defaults["node"]["drain_timeout"] * 1_000_000


def test_an_upgrade_keeps_the_operators_configuration(sandbox: Sandbox) -> None:
    sandbox.run("dpkg", "-i", "/sluice.deb")
    changed = sandbox.run("cat", CONFIG).replace("8443", "9443")
    sandbox.put(changed, CONFIG)
    sandbox.run("dpkg", "-i", "/sluice.deb")
    assert sandbox.run("cat", CONFIG) == changed


def test_removing_leaves_the_configuration_and_purging_leaves_nothing(sandbox: Sandbox) -> None:
    before = sandbox.changed()
    sandbox.run("dpkg", "-i", "/sluice.deb")
    assert sandbox.run("find", "/etc/systemd", "-name", "sluice.service").count("\n") == 1, (
        "enabled"
    )
    # What a server under systemd and sluice-tune leave behind.
    for kind in ("lib", "log"):
        sandbox.run("mkdir", "-p", f"/var/{kind}/private/sluice")
        sandbox.run("ln", "-s", "private/sluice", f"/var/{kind}/sluice")
    sandbox.put("SLUICE_API_TOKEN=at-least-16-characters\n", "/etc/sluice/environment")
    sandbox.run("mkdir", "-p", "/etc/sysctl.d", "/etc/systemd/system/sluice.service.d")
    written = "# Written by `sluice-tune apply --persist`\n"
    for file in ("sysctl.d/90-sluice.conf", "systemd/system/sluice.service.d/90-tuning.conf"):
        sandbox.put(written, f"/etc/{file}")

    sandbox.run("dpkg", "--remove", NAME)
    assert sandbox.try_to("sluice", "--version").returncode != 0
    assert "listen_address" in sandbox.run("cat", CONFIG)

    sandbox.run("dpkg", "--purge", NAME)
    left = {path for path in sandbox.changed() - before if "sluice" in path}
    assert left == set()


def test_removing_puts_the_host_back_and_what_cannot_be_stays_known(sandbox: Sandbox) -> None:
    sandbox.run("dpkg", "-i", "/sluice.deb")
    state = "/var/lib/sluice-tune/state.json"
    sandbox.run("mkdir", "-p", "-m", "0700", "/var/lib/sluice-tune")
    sandbox.put("half of a st", state)
    said = sandbox.run("dpkg", "--remove", NAME)
    assert "could not put all settings" in said
    sandbox.run("dpkg", "--purge", NAME)
    assert sandbox.run("cat", state) == "half of a st"


@pytest.mark.parametrize("path", ["/etc/sluice/notes", "/etc/sysctl.d/90-sluice.conf"])
def test_what_an_operator_added_survives_a_purge(sandbox: Sandbox, path: str) -> None:
    sandbox.run("dpkg", "-i", "/sluice.deb")
    sandbox.run("mkdir", "-p", str(Path(path).parent))
    sandbox.put("mine\n", path)
    sandbox.run("dpkg", "--purge", NAME)
    assert sandbox.run("cat", path) == "mine\n"
