"""Starts and follows the process of one aiortc peer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sluice import TARGET

PEER = Path(__file__).with_name("peer.py")


class Peer:
    """A process of `peer.py`."""

    def __init__(self, name: str, *arguments: str) -> None:
        self._log = TARGET / "test-logs" / f"aiortc-{name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PEER), *arguments], stdout=subprocess.PIPE, stderr=log, text=True
            )

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next line that the peer prints, which must be `event`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # pytest's time limit ends a wait for ever
        assert line, f"the peer ended:\n{self._log.read_text()[-3000:]}"
        said = json.loads(line)
        assert said["event"] == event, said
        return said

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
