"""A participant of a call over rtcd's interface: the page behind a relay, and what it receives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from chromium import Browser, Page, PageError
from participant import Stream, Streams
from relay import Relay

JOIN_TIMEOUT_S = 20.0
MEDIA_TIMEOUT_S = 20.0


class Caller:
    """A page that has joined a call."""

    def __init__(
        self, browser: Browser, relay: Relay, name: str, call: str = "test", **options: str
    ) -> None:
        """Opens the page and waits until its peer is connected.

        Options are those of the page's address: `dc`, `simulcast` and `av1` switch features on,
        `locking="off"` one off, `transport` asks for `udp` or `tcp`, `metrics_ms` is the time
        between the client's figures.
        """
        self.name = name
        self.relay = relay
        query = urlencode({"call": call, "name": name, **options})
        self.page: Page = browser.open(f"{relay.url}/peer.html?{query}")
        self.wait("caller.state === 'connected'", "connecting", JOIN_TIMEOUT_S)
        self.wait("caller.peer.channel.readyState === 'open'", "its data channel opening")

    @property
    def session(self) -> str:
        """Id of its session."""
        return self.page.evaluate("caller.session")

    def do(self, action: str) -> Any:
        """Calls a method of the page's `caller`, such as `unmute()`, and waits until it is done."""
        try:
            return self.page.evaluate(f"caller.{action}")
        except PageError as error:
            raise PageError(f"{error}; {self.describe()}") from None

    def begin(self, action: str) -> None:
        """Calls a method of the page's `caller` and does not wait."""
        self.page.evaluate(f"void caller.{action}")

    def seen(self, what: str) -> Any:
        """What the peer has counted under this name."""
        return self.page.evaluate(f"caller.peer.seen.{what}")

    def wait(self, expression: str, what: str, timeout_s: float = MEDIA_TIMEOUT_S) -> Any:
        """Waits until an expression on the page is truthy."""
        try:
            return self.page.wait_for(expression, timeout_s, f"{self.name}: {what}")
        except PageError as error:
            raise PageError(f"{error}; {self.describe()}") from None

    def received(self) -> list[dict[str, Any]]:
        """Raw reports of what arrives, with `media` and `publisher`."""
        return self.page.evaluate("caller.received()")

    def streams(self) -> Streams:
        """What arrives, by publisher's name and the type that the media map gives it."""
        return {(r["publisher"], r["media"]): Stream.of(r) for r in self.received()}

    def report(self, publisher: str, media: str) -> dict[str, Any]:
        """The raw report of one stream that arrives."""
        [report] = [
            r for r in self.received() if (r["publisher"], r["media"]) == (publisher, media)
        ]
        return report

    def wait_streams(self, condition: Callable[[Streams], Any], what: str) -> None:
        """Waits until what arrives fulfils `condition`."""
        try:
            self.page.poll(lambda: condition(self.streams()), MEDIA_TIMEOUT_S, f"{self.name}: {what}")
        except PageError as error:
            raise PageError(f"{error}; {self.describe()}") from None

    def wait_receiving(self, *wanted: tuple[str, str]) -> None:
        """Waits until exactly these streams, as (name, type), arrive and are decoded."""

        def all_play(streams: Streams) -> bool:
            return set(streams) == set(wanted) and all(
                s.frames_decoded > 0 if s.kind == "video" else s.audio_energy > 0
                for s in streams.values()
            )

        self.wait_streams(all_play, f"receiving {list(wanted)}")

    def wait_hearing(self, *names: str) -> None:
        """Waits until the voices of exactly these people are heard, and nothing else comes."""
        self.wait_receiving(*[(name, "voice") for name in names])

    def path(self) -> dict[str, Any]:
        """Protocol and server's address of the pair in use."""
        return self.page.evaluate("caller.path()")

    def sections(self) -> int:
        """How many m= sections were negotiated."""
        return self.page.evaluate("caller.sections()")

    def problems(self) -> list[str]:
        """Errors and warnings on the page."""
        return self.page.evaluate("window.problems")

    def describe(self) -> str:
        """State of the page, for failures."""
        return self.page.evaluate(
            "JSON.stringify({ state: caller.state, ice: caller.peer?.pc.iceConnectionState,"
            " signaling: caller.peer?.pc.signalingState, channel: caller.peer?.channel.readyState,"
            " remote: [...(caller.peer?.remote ?? [])], seen: caller.peer?.seen,"
            " lock: caller.peer?.lock.answers, problems })"
        )
