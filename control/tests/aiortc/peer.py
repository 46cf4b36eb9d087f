"""One aiortc peer in a process of its own: publishes a file with WHIP, or plays a call with WHEP.

    peer.py publish URL FILE      peer.py repeat URL FILE      peer.py play URL

Prints one JSON object a line: `{"event": "connected", ...}` once media can flow, and at the end
`{"event": "counted", ...}` with every picture and sound that was sent or received, each with its
time on the clock that all processes of a machine share. Ends by itself when the file does, which
`repeat` starts again for ever, and when nothing has been received for `IDLE_S`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from typing import Any
from urllib.parse import urljoin

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError
from numbered import read_number

CONNECT_TIMEOUT_S = 20.0
IDLE_S = 2.0


class Counts:
    """What went by: `frames` as `[number, time]`, `samples` as `[count so far, time]`."""

    def __init__(self) -> None:
        self.frames: list[tuple[int | None, float]] = []
        self.samples: list[tuple[int, float]] = []

    def add(self, kind: str, frame: Any) -> None:
        """Counts one frame of a track."""
        now = time.monotonic()
        if kind == "video":
            self.frames.append((read_number(frame.to_ndarray(format="gray")), now))
        else:
            before = self.samples[-1][0] if self.samples else 0
            self.samples.append((before + frame.samples, now))


class Counted(MediaStreamTrack):
    """Passes a track on and counts it."""

    def __init__(self, source: MediaStreamTrack, counts: Counts) -> None:
        super().__init__()
        self.kind = source.kind
        self._source = source
        self._counts = counts
        self.ended = asyncio.Event()

    async def recv(self) -> Any:
        try:
            frame = await self._source.recv()
        except MediaStreamError:
            self.ended.set()
            raise
        self._counts.add(self.kind, frame)
        return frame


class Resource:
    """The session that a WHIP or WHEP server made for an offer."""

    def __init__(self, location: str, etag: str | None, answer: str) -> None:
        self.location = location
        self.etag = etag
        self.answer = answer


def post_offer(url: str, sdp: str) -> Resource:
    """Sends an offer, RFC 9725 section 4.2."""
    request = urllib.request.Request(
        url, sdp.encode(), {"Content-Type": "application/sdp"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        if answer.status != 201 or answer.headers.get_content_type() != "application/sdp":
            raise RuntimeError(f"{answer.status} {answer.headers.get_content_type()}, not an answer")
        return Resource(
            urljoin(url, answer.headers["Location"]),
            answer.headers.get("ETag"),
            answer.read().decode(),
        )


def delete(location: str) -> int:
    """Ends the session and returns the status."""
    request = urllib.request.Request(location, method="DELETE")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status


def say(event: str, **values: Any) -> None:
    """Writes one line for the test that started this process."""
    print(json.dumps({"event": event, **values}), flush=True)


async def connect(connection: RTCPeerConnection, url: str) -> Resource:
    """Negotiates over HTTP and waits until the connection stands."""
    connected = asyncio.Event()

    @connection.on("connectionstatechange")
    def on_change() -> None:
        if connection.connectionState == "connected":
            connected.set()

    await connection.setLocalDescription(await connection.createOffer())
    resource = await asyncio.to_thread(post_offer, url, connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(resource.answer, "answer"))
    await asyncio.wait_for(connected.wait(), CONNECT_TIMEOUT_S)
    say("connected", location=resource.location, etag=resource.etag)
    return resource


async def finish(connection: RTCPeerConnection, resource: Resource, counts: Counts) -> None:
    """Ends the session and prints the counts."""
    status = await asyncio.to_thread(delete, resource.location)
    await connection.close()
    say("counted", deleted=status, frames=counts.frames, samples=counts.samples)


async def publish(url: str, file: str, repeat: bool) -> None:
    """Publishes the file's sound and pictures in real time until it ends."""
    counts = Counts()
    player = MediaPlayer(file, loop=repeat)
    video, audio = Counted(player.video, counts), Counted(player.audio, counts)
    connection = RTCPeerConnection()
    for track in (audio, video):
        connection.addTransceiver(track, direction="sendonly")
    resource = await connect(connection, url)
    await video.ended.wait()
    await asyncio.sleep(0.5)  # lets the last frames leave the encoder and the network
    await finish(connection, resource, counts)


async def play(url: str) -> None:
    """Receives until nothing comes any more."""
    counts = Counts()
    last = asyncio.get_running_loop().time()
    connection = RTCPeerConnection()

    async def count(track: MediaStreamTrack) -> None:
        nonlocal last
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            last = asyncio.get_running_loop().time()
            counts.add(track.kind, frame)

    tasks: list[asyncio.Task[None]] = []
    connection.on("track", lambda track: tasks.append(asyncio.create_task(count(track))))
    for kind in ("audio", "video"):
        connection.addTransceiver(kind, direction="recvonly")
    resource = await connect(connection, url)
    last = asyncio.get_running_loop().time()
    while (idle := asyncio.get_running_loop().time() - last) < IDLE_S:
        await asyncio.sleep(IDLE_S - idle)
    await finish(connection, resource, counts)


def main() -> None:
    """Reads the command line."""
    match sys.argv[1:]:
        case ["publish", url, file]:
            asyncio.run(publish(url, file, repeat=False))
        case ["repeat", url, file]:
            asyncio.run(publish(url, file, repeat=True))
        case ["play", url]:
            asyncio.run(play(url))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
