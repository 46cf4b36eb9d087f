"""One aiortc process publishes a file with WHIP, another plays it with WHEP."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chromium import Browser
from numbered import FILE_S, FRAMES_PER_S, SAMPLES_PER_S
from participant import Participant
from process import Peer
from sluice import Server

# The player comes a little later than the publisher and sees nothing before its first key frame.
PLAYED_S_MIN = 8
# Of the pictures from the first to the last that were seen.
FRAMES_SHARE_MIN = 0.98
# Sound is compared from this long after the player's first, since a player that was slow to start
# gets what had gathered meanwhile at once, faster than it was sent.
SETTLED_S = 2
# How far the sound that was played may be from what was sent in the same time: both come in blocks,
# at moments of their own.
SAMPLES_TOLERANCE_S = 0.3
PROCESS_TIMEOUT_S = 60.0


def samples_between(samples: list[list[float]], begin: float, end: float) -> float:
    """How many samples went by between two times."""
    inside = [count for count, at in samples if begin <= at <= end]
    return inside[-1] - inside[0] if inside else 0


@pytest.mark.timeout(PROCESS_TIMEOUT_S)
def test_what_whip_publishes_whep_plays(
    start_server: Callable[..., Server], backend: str, media_file: Path
) -> None:
    server = start_server("--shards=2", f"--backend={backend}")
    publisher = Peer(f"publish-{backend}", "publish", f"{server.url}/whip/film", str(media_file))
    player = None
    try:
        published = publisher.wait_for("connected")
        assert published["etag"], "a WHIP answer carries an entity tag"
        status, tracks = server.get("/v1/calls/film/tracks")
        assert status == 200
        assert sorted(track["kind"] for track in tracks["tracks"]) == ["audio", "video"]

        player = Peer(f"play-{backend}", "play", f"{server.url}/whep/film")
        player.wait_for("connected")
        sent = publisher.wait_for("counted")
        received = player.wait_for("counted")
    finally:
        publisher.close()
        if player:
            player.close()

    numbers_sent = [number for number, _ in sent["frames"]]
    numbers = [number for number, _ in received["frames"]]
    print(f"pictures sent {len(numbers_sent)}, received {len(numbers)}: {numbers[:1]}..{numbers[-1:]}")
    assert numbers_sent == list(range(FILE_S * FRAMES_PER_S))
    assert None not in numbers, "every picture can be read"
    assert numbers == sorted(set(numbers)), "each picture comes once and in order"
    assert len(numbers) >= PLAYED_S_MIN * FRAMES_PER_S
    assert len(numbers) >= FRAMES_SHARE_MIN * (numbers[-1] - numbers[0] + 1)
    assert numbers[-1] >= numbers_sent[-1] - FRAMES_PER_S // 2, "the film was seen to its end"

    begin = received["samples"][0][1] + SETTLED_S
    end = min(received["samples"][-1][1], sent["samples"][-1][1])
    heard = samples_between(received["samples"], begin, end)
    spoken = samples_between(sent["samples"], begin, end)
    print(f"samples sent {spoken}, received {heard} in {end - begin:.2f} s")
    assert end - begin >= PLAYED_S_MIN - SETTLED_S
    assert abs(heard - spoken) <= SAMPLES_TOLERANCE_S * SAMPLES_PER_S

    assert sent["deleted"] in (200, 204) and received["deleted"] in (200, 204)
    deadline = time.monotonic() + 5
    while (answer := server.get("/v1/calls/film"))[0] != 404 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer[0] == 404, "a call that WHIP made goes with its last session"


def test_the_call_page_shows_what_whip_publishes(
    start_server: Callable[..., Server], browser: Browser, media_file: Path
) -> None:
    server = start_server()
    publisher = Peer("to-page", "publish", f"{server.url}/whip/film", str(media_file))
    try:
        publisher.wait_for("connected")
        ann = Participant(browser, server.url, "film", "Ann", video="none", audio="none")
        try:
            ann.wait_streams(
                lambda streams: sorted(kind for _, kind in streams) == ["audio", "video"]
                and all(s.frames_decoded > FRAMES_PER_S or s.audio_energy > 0 for s in streams.values()),
                "the page playing the film",
            )
        finally:
            ann.page.close()
    finally:
        publisher.close()


def test_playing_an_empty_call_is_refused(start_server: Callable[..., Server]) -> None:
    server = start_server()
    peer = Peer("empty", "play", f"{server.url}/whep/nothing")
    try:
        with pytest.raises(AssertionError, match="HTTP Error 40[49]"):
            peer.wait_for("connected")
    finally:
        peer.close()
