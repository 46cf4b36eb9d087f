"""One person in a call: the call page in a window of its own, and what it receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from chromium import Browser, Page, PageError

JOIN_TIMEOUT_S = 20.0
MEDIA_TIMEOUT_S = 20.0

# Raw reports of what arrives, with the publisher's name beside each.
RECEIVED = """
(async () => {
  const publisher = new Map(sluice.received.map((stream) => [stream.mid, stream.name]));
  const streams = [];
  for (const report of (await sluice.pc.getStats()).values()) {
    if (report.type === "inbound-rtp" && publisher.has(report.mid)) {
      streams.push({ ...report, publisher: publisher.get(report.mid) });
    }
  }
  return streams;
})()
"""

PATH = """
(async () => {
  const reports = await sluice.pc.getStats();
  for (const report of reports.values()) {
    if (report.type !== "transport" || !report.selectedCandidatePairId) continue;
    const pair = reports.get(report.selectedCandidatePairId);
    const local = reports.get(pair.localCandidateId);
    const remote = reports.get(pair.remoteCandidateId);
    return { protocol: local.protocol, address: remote.address, port: remote.port,
             ufrag: report.iceLocalUsernameFragment };
  }
  return null;
})()
"""

# The codecs of the pictures that are decoded.
CODECS = """
(async () => {
  const reports = await sluice.pc.getStats();
  return [...reports.values()]
    .filter((report) => report.type === "inbound-rtp" && report.kind === "video")
    .map((report) => reports.get(report.codecId)?.mimeType);
})()
"""

# Lets a test take a page's WebSocket away, as a network would.
RECORD_SOCKETS = """
window.recordedSockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...args) { super(...args); recordedSockets.push(this); }
};
"""


@dataclass(frozen=True)
class Stream:
    """What one received stream has brought since it began."""

    publisher: str
    kind: str
    packets: int
    packets_lost: int
    frames_decoded: int
    samples: int
    samples_concealed: int
    audio_energy: float

    @classmethod
    def of(cls, report: dict[str, Any]) -> Stream:
        """Reads a report of the type `inbound-rtp`."""
        # Concealment of silence is how a jitter buffer waits for a stream that is not there yet.
        concealed = report.get("concealedSamples", 0) - report.get("silentConcealedSamples", 0)
        return cls(
            publisher=report["publisher"],
            kind=report["kind"],
            packets=report.get("packetsReceived", 0),
            packets_lost=report.get("packetsLost", 0),
            frames_decoded=report.get("framesDecoded", 0),
            samples=report.get("totalSamplesReceived", 0),
            samples_concealed=concealed,
            audio_energy=report.get("totalAudioEnergy", 0.0),
        )

    def since(self, before: Stream) -> Stream:
        """What has come since `before`."""
        return Stream(
            self.publisher,
            self.kind,
            self.packets - before.packets,
            self.packets_lost - before.packets_lost,
            self.frames_decoded - before.frames_decoded,
            self.samples - before.samples,
            self.samples_concealed - before.samples_concealed,
            self.audio_energy - before.audio_energy,
        )


Streams = dict[tuple[str, str], Stream]  # by publisher's name and kind


class Participant:
    """A page that has joined a call."""

    def __init__(
        self,
        browser: Browser,
        server_url: str,
        call: str,
        name: str,
        before_load: str = "",
        **parameters: str,
    ) -> None:
        """Opens the page; it joins by itself with camera and microphone unless told otherwise."""
        self.name = name
        query = {"call": call, "name": name, "auto": "1", "video": "camera", **parameters}
        self.page: Page = browser.open(f"{server_url}/?{urlencode(query)}", before_load)

    def wait_connected(self) -> None:
        """Waits until the page is in the call."""
        try:
            self.page.wait_for(
                "window.sluice?.state === 'connected'", JOIN_TIMEOUT_S, f"{self.name} joining"
            )
        except PageError as error:
            raise PageError(f"{error}; {self.describe()}") from None

    def wait_media_from(self, *names: str) -> None:
        """Waits until sound and pictures of exactly these people are played."""
        wanted = {(name, kind) for name in names for kind in ("audio", "video")}

        def all_play(streams: Streams) -> bool:
            return set(streams) == wanted and all(
                s.frames_decoded > 0 if s.kind == "video" else s.samples > 0
                for s in streams.values()
            )

        self.wait_streams(all_play, f"{self.name} receiving {', '.join(names) or 'nobody'}")

    def wait_streams(self, condition: Callable[[Streams], bool], what: str) -> None:
        """Waits until the received streams fulfil `condition`."""
        poll = lambda: condition(self.streams())  # noqa: E731
        try:
            self.page.poll(poll, MEDIA_TIMEOUT_S, what)
        except PageError as error:
            raise PageError(f"{error}; {self.describe()}") from None

    def streams(self) -> Streams:
        """What is received from whom, from `getStats`."""
        streams = [Stream.of(report) for report in self.page.evaluate(RECEIVED)]
        return {(stream.publisher, stream.kind): stream for stream in streams}

    def path(self) -> dict[str, Any]:
        """Protocol, server address and own ufrag of the transport in use."""
        return self.page.evaluate(PATH)

    def video_codecs(self) -> list[str]:
        """MIME types of the codecs of the pictures that arrive."""
        return self.page.evaluate(CODECS)

    def can_send(self, codec: str) -> bool:
        """Whether this browser encodes the codec."""
        capabilities = "RTCRtpSender.getCapabilities('video').codecs.map(codec => codec.mimeType)"
        return f"video/{codec}" in self.page.evaluate(capabilities)

    def tiles(self) -> list[str]:
        """Captions of the pictures on the page."""
        return self.page.evaluate("[...document.querySelectorAll('.caption')].map(c => c.textContent)")

    def notice(self) -> str:
        """The message that the page shows, if any."""
        return self.page.evaluate("document.getElementById('notice-text').textContent")

    def press(self, control: str) -> None:
        """Presses the button with this id."""
        self.page.evaluate(f"document.getElementById('{control}').click()")

    def describe(self) -> str:
        """State of the page, for failures."""
        state = self.page.evaluate(
            "({ state: window.sluice?.state, connection: window.sluice?.pc?.connectionState,"
            " ice: window.sluice?.pc?.iceConnectionState, others: window.sluice?.participants,"
            " received: window.sluice?.received,"
            " notice: document.getElementById('notice-text')?.textContent })"
        )
        return f"{self.name}'s page: {state}"
