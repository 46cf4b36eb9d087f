"""Prometheus scrapes a server under load and answers what two dashboards ask: rtcd's published one, and ours."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from process import Peer
from prometheus import Prometheus, PrometheusError
from rtcd_dashboard import EXPRESSIONS
from sluice import ROOT, Server

TEST_TIMEOUT_S = 110.0
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
# A program that holds a call over rtcd's interface: it is given the server's URL, prints a line once media flows, and goes on until
# it is terminated. Without it, expressions that need such a call are only checked to be understood.
CALLER = shlex.split(os.environ.get("SLUICE_RTCD_CALLER", ""))
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
def rtcd_call(server: Server) -> Iterator[bool]:
    """A call over rtcd's interface, where there is a program for it; tells whether there is."""
    if not CALLER:
        yield False
        return
    with subprocess.Popen([*CALLER, server.url], stdout=subprocess.PIPE, text=True) as caller:
        try:
            assert caller.stdout is not None and caller.stdout.readline(), "the caller ended"
            yield True
        finally:
            caller.terminate()


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
    start_server: Callable[..., Server], start_prometheus: Callable[[Server], Prometheus]
) -> None:
    server = start_server("--shards=2")
    target = server.url.removeprefix("http://")
    prometheus = start_prometheus(server)
    with rtcd_call(server) as has_rtcd_call:
        for expression in EXPRESSIONS:
            text = expression.of(target)
            if expression.is_there_at_once or has_rtcd_call:
                prometheus.wait_for_data(text)
            else:
                assert prometheus.query(text) == [], f"mark {text} as there at once"
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
