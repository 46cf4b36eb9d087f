"""The example for Prometheus: it is valid, its alerts fire when they should, and it asks for nothing that there is not."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

from sluice import ROOT, Server

EXAMPLE = ROOT / "packaging" / "prometheus"
RULES_TEST = Path(__file__).with_name("rules_test.yml")


def promtool(*words: str) -> None:
    """Runs promtool, which has to be content."""
    done = subprocess.run(
        ["promtool", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout


def test_configuration_and_rules_are_valid() -> None:
    promtool("check", "config", str(EXAMPLE / "prometheus.yml"))


def test_what_is_offered_in_comments_is_valid_too(tmp_path: Path) -> None:
    # A comment of words has one space in front of them.
    offered = re.sub(
        r"^( *)#(?! \S)", r"\1", (EXAMPLE / "prometheus.yml").read_text(), flags=re.MULTILINE
    )
    assert all(name in offered for name in ("\n    dns_sd_configs:", "\n    tls_config:"))
    authority = tmp_path / "ca.pem"
    authority.touch()
    offered = offered.replace("/etc/prometheus/sluice-ca.pem", str(authority))
    (tmp_path / "rules.yml").write_text((EXAMPLE / "rules.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(offered)
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_alerts_fire_when_they_should_and_not_before() -> None:
    promtool("test", "rules", str(RULES_TEST))


def test_every_alert_has_a_test() -> None:
    alerts = re.findall(r"- alert: (\w+)", (EXAMPLE / "rules.yml").read_text())
    assert len(alerts) > 5, "there are alerts"
    assert [alert for alert in alerts if alert not in RULES_TEST.read_text()] == []


def test_rules_ask_only_for_metrics_that_there_are(start_server: Callable[..., Server]) -> None:
    rules = (EXAMPLE / "rules.yml").read_text()
    with urllib.request.urlopen(f"{start_server().url}/metrics", timeout=5) as answer:
        exported = set(re.findall(r"^# TYPE (\w+) ", answer.read().decode(), re.MULTILINE))
    asked = {name for name in re.findall(r"\b(?:sluice|rtcd)_\w+", rules)}
    assert len(asked) > 10, "the rules ask for metrics"
    assert asked - exported == set()
