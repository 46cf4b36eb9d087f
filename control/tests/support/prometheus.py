"""A Prometheus server that scrapes one target, and answers expressions."""

from __future__ import annotations

import json
import math
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sluice import TARGET, free_port

SCRAPE_INTERVAL = "250ms"
START_TIMEOUT_S = 30.0
# A rate needs two scrapes, and the engine's figures may be half a second old.
ANSWER_TIMEOUT_S = 20.0
HOST = "127.0.0.1"


class PrometheusError(Exception):
    """Prometheus did not start, or refused what it was asked."""


class Prometheus:
    """Runs until `close`, with its data in `folder`."""

    def __init__(self, folder: Path, target: str) -> None:
        configuration = folder / "prometheus.yml"
        scrape = {"job_name": "sluice", "static_configs": [{"targets": [target]}]}
        # JSON is YAML, too.
        configuration.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": SCRAPE_INTERVAL, "scrape_timeout": SCRAPE_INTERVAL},
                    "scrape_configs": [scrape],
                }
            )
        )
        self._log = TARGET / "test-logs" / "prometheus.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self.url = f"http://{HOST}:{free_port(HOST)}"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_for_a_scrape()
        except Exception:
            self.close()
            raise

    def _wait_for_a_scrape(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if any(series["value"][1] == "1" for series in self.query("up")):
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise PrometheusError(f"no scrape came about:\n{self._log.read_text()[-3000:]}")

    def _get(self, path: str, **parameters: str) -> Any:
        request = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            # 503 while it starts; 400 says what is wrong with an expression.
            if refusal.code == 503:
                raise
            raise PrometheusError(f"{parameters}: {refusal.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has at this moment."""
        return self._get("query", query=expression)["result"]

    def wait_for_data(self, expression: str) -> None:
        """Returns as soon as an expression has any series."""
        self._wait_for(expression, lambda values: values)

    def wait_for_a_number(self, expression: str) -> None:
        """Returns as soon as an expression can be drawn: a quotient of nothing by nothing cannot."""
        self._wait_for(expression, lambda values: any(math.isfinite(float(v)) for v in values))

    def _wait_for(self, expression: str, is_there: Callable[[list[str]], Any]) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not is_there(values := [s["value"][1] for s in self.query(expression)]):
            if time.monotonic() > deadline:
                raise PrometheusError(f"{expression} has no data but {values}")
            time.sleep(0.25)

    def label_values(self, label: str) -> list[str]:
        """The values that a label has."""
        return self._get(f"label/{label}/values")

    def type_of(self, metric: str) -> str | None:
        """The type under which a metric was scraped."""
        known = self._get("metadata", metric=metric).get(metric)
        return known[0]["type"] if known else None

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
