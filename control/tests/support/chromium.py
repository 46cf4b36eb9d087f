"""A headless Chromium and its pages, driven through the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Cameras and microphones that Chromium makes up, granted without a question.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    # Several pages share this browser; none of them may be slowed down for not being in front.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    # Where loopback is the only network, its addresses are needed as candidates.
    "--allow-loopback-in-peer-connection",
    "--remote-debugging-port=0",
)

START_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 20.0


class PageError(Exception):
    """The page or the browser refused what was asked."""


def find_chromium() -> str:
    """Path of the browser; `CHROMIUM` in the environment overrides the search."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    for name in names:
        if name and (path := shutil.which(name)):
            return path
    raise PageError("no Chromium found; install the package `chromium` or set CHROMIUM")


class Browser:
    """One browser process with a profile of its own, removed on close."""

    def __init__(self, extra_flags: tuple[str, ...] = ()) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix="sluice-chromium-", ignore_cleanup_errors=True
        )
        self._log = open(Path(self._profile.name) / "browser.log", "wb")
        self._process = subprocess.Popen(
            [
                find_chromium(),
                *FLAGS,
                *extra_flags,
                f"--user-data-dir={self._profile.name}",
                "about:blank",
            ],
            stdout=self._log,
            stderr=self._log,
            # A group of its own, so that close() also reaches the processes it has made.
            start_new_session=True,
        )
        self._ids = itertools.count(1)
        self._resources = ExitStack()
        try:
            address = self._debugger_address()
            self._socket: ClientConnection = self._resources.enter_context(
                connect(address, max_size=None, compression=None)
            )
        except Exception:
            self._stop()
            raise

    def _debugger_address(self) -> str:
        port_file = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PageError(f"Chromium ended at start:\n{self.log()}")
            lines = port_file.read_text().splitlines() if port_file.exists() else []
            if len(lines) >= 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            time.sleep(0.05)
        raise PageError(f"Chromium did not start in {START_TIMEOUT_S} s:\n{self.log()}")

    def log(self) -> str:
        """The last lines that the browser wrote."""
        text = (Path(self._profile.name) / "browser.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-20:])

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Sends one DevTools command and returns its result."""
        message: dict[str, Any] = {"id": next(self._ids), "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            reply = json.loads(self._socket.recv(timeout=left))
            if reply.get("id") != message["id"]:
                continue  # an event, or the late reply to a command that timed out
            if "error" in reply:
                raise PageError(f"{method}: {reply['error'].get('message')}")
            return reply["result"]
        raise PageError(f"{method}: no reply in {CALL_TIMEOUT_S} s")

    def open(self, url: str, before_load: str = "") -> Page:
        """Opens `url` in a window and storage of its own, after running the script `before_load`."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call(
            "Target.createTarget",
            url="about:blank",
            browserContextId=context,
            newWindow=True,
            width=1280,
            height=800,
        )["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        if before_load:
            self.call("Page.enable", session)
            self.call("Page.addScriptToEvaluateOnNewDocument", session, source=before_load)
        self.call("Page.navigate", session, url=url)
        return Page(self, context, session)

    def close(self) -> None:
        """Ends the browser and removes its profile."""
        self._resources.close()
        self._stop()

    def _stop(self) -> None:
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, signal_number)
            except ProcessLookupError:
                break
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                continue
        self._log.close()
        self._profile.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, context: str, session: str) -> None:
        self._browser = browser
        self._context = context
        self._session = session

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression; a promise is awaited. The value must be JSON."""
        answer = self._browser.call(
            "Runtime.evaluate",
            self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if problem := answer.get("exceptionDetails"):
            text = problem.get("exception", {}).get("description") or problem.get("text")
            raise PageError(f"{expression}: {text}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float, what: str) -> Any:
        """Polls an expression until it is truthy and returns its value."""
        return self.poll(lambda: self.evaluate(expression), timeout_s, what)

    def poll(self, read: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Calls `read` until it returns something truthy; a page that is not ready yet may refuse."""
        deadline = time.monotonic() + timeout_s
        last: Any = None
        while time.monotonic() < deadline:
            try:
                if last := read():
                    return last
            except PageError as error:
                last = error
            time.sleep(0.1)
        raise PageError(f"{what} did not happen in {timeout_s} s; last: {last!r}")

    def screenshot(self, path: Path) -> None:
        """Writes what the page looks like as PNG."""
        data = self._browser.call("Page.captureScreenshot", self._session, format="png")["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data))

    def resize(self, width: int, height: int) -> None:
        """Gives the page another size, in CSS pixels."""
        self._browser.call(
            "Emulation.setDeviceMetricsOverride",
            self._session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def close(self) -> None:
        """Closes the page, its window and its storage."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
