"""Prometheus scrapes a server under load and answers what two dashboards ask: rtcd's published one, and ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from caller import Caller
from chromium import Browser
from process import Peer
from prometheus import Prometheus, PrometheusError
from relay import Relay
from rtcd_dashboard import EXPRESSIONS
from sluice import ROOT, Server

TEST_TIMEOUT_S = 110.0
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
# Sound alone is 50 packets a second.
PACKETS_OUT = "sum(rate(sluice_shard_rtp_packets_out_total[10s]))"

TYPES = {
    "rtcd_rtc_conn_states_total": "counter",
    "rtcd_process_cpu_seconds_total": "counter",
    "rtcd_process_resident_memory_bytes": "gauge",
    "go_goroutines": "gauge",
    "sluice_shard_drops_total": "counter",
    "sluice_shard_forward_seconds": "histogram",
}


@contextmanager
def film(server: Server, file: Path) -> Iterator[None]:
    """One aiortc peer publishes a film over and over, another plays it."""
    peers = [Peer("film", "repeat", f"{server.url}/whip/film", str(file))]
    try:
        peers[0].wait_for("connected")
        peers.append(Peer("audience", "play", f"{server.url}/whep/film"))
        peers[1].wait_for("connected")
        yield
    finally:
        for peer in peers:
            peer.close()


@contextmanager
def rtcd_call(server: Server, browser: Browser) -> Iterator[None]:
    """Two people talk over rtcd's interface, and one of them shares a screen."""
    relay = Relay(server.url)
    people: list[Caller] = []
    try:
        for name in ("Ann", "Bob"):
            people.append(Caller(browser, relay, name))
            people[-1].do("unmute()")
        people[0].do("shareScreen()")
        people[1].wait_receiving(("Ann", "voice"), ("Ann", "screen"))
        yield
    finally:
        for person in people:
            person.page.close()
        relay.close()


def own_expressions() -> list[str]:
    """Every expression of our dashboard, with Grafana's variables filled in."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    written = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(written) > 20, "the dashboard has expressions"
    filled = [
        text.replace("$__rate_interval", "10s").replace("$instance", ".*") for text in written
    ]
    unknown = [text for text in filled if "$" in text]
    assert not unknown, f"variables that are not filled in: {unknown}"
    return filled


@pytest.fixture
def start_prometheus(tmp_path: Path) -> Iterator[Callable[[Server], Prometheus]]:
    """Starts a Prometheus that scrapes a server, and stops it after the test."""
    started: list[Prometheus] = []

    def start(server: Server) -> Prometheus:
        started.append(Prometheus(tmp_path, server.url.removeprefix("http://")))
        return started[-1]

    yield start
    for prometheus in started:
        prometheus.close()


@pytest.mark.timeout(TEST_TIMEOUT_S)
def test_every_expression_of_rtcds_dashboard_is_answered(
    start_server: Callable[..., Server],
    start_prometheus: Callable[[Server], Prometheus],
    browser: Browser,
) -> None:
    server = start_server("--shards=2", "--set=api.security.allow_self_registration=true")
    target = server.url.removeprefix("http://")
    prometheus = start_prometheus(server)
    with rtcd_call(server, browser):
        for expression in EXPRESSIONS:
            prometheus.wait_for_data(expression.of(target))
    assert prometheus.label_values("instance") == [target], "what the dashboard chooses from"
    for metric, kind in TYPES.items():
        assert prometheus.type_of(metric) == kind, metric


@pytest.mark.timeout(TEST_TIMEOUT_S)
def test_every_expression_of_our_dashboard_has_a_number(
    start_server: Callable[..., Server],
    start_prometheus: Callable[[Server], Prometheus],
    media_file: Path,
) -> None:
    server = start_server("--shards=2")
    prometheus = start_prometheus(server)
    with film(server, media_file):
        prometheus.wait_for_data(f"{PACKETS_OUT} > 20")
        for text in own_expressions():
            prometheus.wait_for_a_number(text)


def test_an_expression_that_is_wrong_is_refused(
    start_server: Callable[..., Server], start_prometheus: Callable[[Server], Prometheus]
) -> None:
    prometheus = start_prometheus(start_server())
    with pytest.raises(PrometheusError, match="parse error"):
        prometheus.wait_for_data("sum(")
