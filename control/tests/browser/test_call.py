"""Three people in one call through the call page, in headless Chromium."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from chromium import Browser
from participant import RECORD_SOCKETS, Participant, Streams
from sluice import TARGET, Server

StartServer = Callable[..., Server]
Join = Callable[..., Participant]

MEASURED_S = 10.0
SAMPLES_PER_S = 48_000
SAMPLES_SHARE_MIN = 0.9
LOST_SHARE_MAX = 0.01


@dataclass(frozen=True)
class Bounds:
    """What received streams must keep to."""

    frames_per_s_min: float
    concealed_share_max: float


# The made-up camera gives 20 pictures a second; a machine that encodes three and decodes six of
# them on two cores may not reach that, and the server is not to blame for it.
STEADY = Bounds(frames_per_s_min=10.0, concealed_share_max=0.05)
# In the first seconds the senders are still finding out what rate they may use, and jitter buffers
# how long they have to be.
STARTING = Bounds(frames_per_s_min=3.0, concealed_share_max=0.25)


@pytest.fixture
def join(browser: Browser) -> Iterator[Join]:
    """Lets people join calls; their pages are closed after the test."""
    people: list[Participant] = []

    def join(server: Server, name: str, call: str = "test", **options: str) -> Participant:
        people.append(Participant(browser, server.url, call, name, **options))
        return people[-1]

    yield join
    for person in people:
        person.page.close()


def assert_flows(
    person: Participant, before: Streams, after: Streams, seconds: float, bounds: Bounds
) -> None:
    """Every stream brought pictures or sound all the time between the two measurements."""
    assert set(after) == set(before)
    for key, stream in after.items():
        new = stream.since(before[key])
        said = f"{person.name} from {key}: {new} in {seconds:.1f} s"
        assert new.packets > 0, said
        assert new.packets_lost <= LOST_SHARE_MAX * new.packets, said
        if stream.kind == "video":
            assert new.frames_decoded >= bounds.frames_per_s_min * seconds, said
        else:
            assert new.samples >= SAMPLES_SHARE_MIN * SAMPLES_PER_S * seconds, said
            assert new.samples_concealed <= bounds.concealed_share_max * new.samples, said
            assert new.audio_energy > 0, said


def assert_media_flows(people: list[Participant], seconds: float, bounds: Bounds) -> None:
    """Measures all people over the same time."""
    before = [(time.monotonic(), person.streams()) for person in people]
    time.sleep(seconds)  # the length of the measurement, not a wait for something
    for person, (began, streams) in zip(people, before, strict=True):
        assert_flows(person, streams, person.streams(), time.monotonic() - began, bounds)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("shards", [1, 2])
def test_three_people_see_and_hear_each_other(
    start_server: StartServer, join: Join, backend: str, shards: int, transport: str
) -> None:
    server = start_server(f"--shards={shards}", f"--backend={backend}")
    status, node = server.get("/v1/node")
    assert (status, node["backend"], len(node["shards"])) == (200, backend, shards)

    ann, bob = (join(server, name, transport=transport) for name in ("Ann", "Bob"))
    for person in (ann, bob):
        person.wait_connected()
    ann.wait_media_from("Bob")
    bob.wait_media_from("Ann")

    cleo = join(server, "Cleo", transport=transport)
    ann.wait_media_from("Bob", "Cleo")
    bob.wait_media_from("Ann", "Cleo")
    cleo.wait_media_from("Ann", "Bob")

    everyone = [ann, bob, cleo]
    assert [person.path()["protocol"] for person in everyone] == [transport] * 3
    assert_media_flows(everyone, MEASURED_S, STEADY)
    ann.page.screenshot(TARGET / "screenshots" / f"{backend}-{shards}-{transport}.png")

    ann.press("leave")
    for person, other in ((bob, cleo), (cleo, bob)):
        person.wait_media_from(other.name)
        assert person.tiles() == [f"{person.name} (you)", other.name]
    assert_media_flows([bob, cleo], 1.0, STARTING)


@pytest.mark.parametrize("codec", ["VP8", "VP9", "H264", "AV1"])
def test_every_codec_passes_through(start_server: StartServer, join: Join, codec: str) -> None:
    server = start_server()
    ann, bob = (join(server, name, codec=codec) for name in ("Ann", "Bob"))
    if not ann.can_send(codec):
        pytest.skip(f"this Chromium does not encode {codec}")
    ann.wait_media_from("Bob")
    bob.wait_media_from("Ann")
    assert [person.video_codecs() for person in (ann, bob)] == [[f"video/{codec}"]] * 2
    assert_media_flows([ann, bob], 2.0, STARTING)


def test_pictures_of_padded_packets_are_shown(start_server: StartServer, join: Join) -> None:
    server = start_server()
    ann, bob = (join(server, name) for name in ("Ann", "Bob"))
    ann.wait_media_from("Bob")
    bob.wait_media_from("Ann")
    assert_media_flows([ann, bob], 5.0, STARTING)
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    counted = re.findall(r"^sluice_shard_rtp_packets_padded_total\{.*\} (\d+)$", metrics, re.M)
    assert sum(map(int, counted)) > 0, "frames of several packets came, and none was made equal"


def test_a_call_works_over_ipv6(start_server: StartServer, join: Join) -> None:
    server = start_server(host="::1")
    ann, bob = (join(server, name) for name in ("Ann", "Bob"))
    ann.wait_media_from("Bob")
    bob.wait_media_from("Ann")
    assert [person.path()["address"] for person in (ann, bob)] == ["::1", "::1"]
    assert_media_flows([ann, bob], 2.0, STARTING)


def test_camera_and_screen_come_and_go_during_a_call(start_server: StartServer, join: Join) -> None:
    server = start_server()
    ann, bob = (join(server, name) for name in ("Ann", "Bob"))
    ann.wait_media_from("Bob")
    bob.wait_media_from("Ann")

    ann.press("toggle-camera")
    bob.wait_streams(lambda streams: set(streams) == {("Ann", "audio")}, "Ann's camera stopping")
    ann.press("toggle-camera")
    bob.wait_media_from("Ann")
    ann.press("toggle-screen")
    bob.page.wait_for(
        "sluice.received.filter(stream => stream.kind === 'video').length === 2",
        10,
        "a second picture of Ann",
    )
    assert bob.tiles() == ["Bob (you)", "Ann", "Ann, picture 2"]
    # Both change at once, so that both sides may offer at the same time.
    bob.press("toggle-camera")
    ann.press("toggle-screen")
    bob.wait_media_from("Ann")
    ann.wait_streams(lambda streams: set(streams) == {("Bob", "audio")}, "Bob's camera stopping")


def test_someone_who_publishes_nothing_still_sees_and_hears(
    start_server: StartServer, join: Join
) -> None:
    server = start_server()
    ann = join(server, "Ann")
    watcher = join(server, "Watcher", video="none", audio="none")
    watcher.wait_media_from("Ann")
    ann.wait_connected()
    assert ann.streams() == {}
    assert ann.tiles() == ["Ann (you)", "Watcher"]


def test_media_survives_the_loss_of_the_websocket(start_server: StartServer, join: Join) -> None:
    server = start_server()
    ann = join(server, "Ann", before_load=RECORD_SOCKETS)
    bob = join(server, "Bob")
    ann.wait_media_from("Bob")
    session = ann.page.evaluate("sluice.session")

    ann.page.evaluate("recordedSockets.at(-1).close()")
    ann.page.wait_for("recordedSockets.length === 2", 10, "Ann's second WebSocket")
    ann.wait_connected()
    assert ann.page.evaluate("sluice.session") == session
    bob.press("leave")
    ann.wait_media_from()


def test_media_survives_an_ice_restart(start_server: StartServer, join: Join) -> None:
    server = start_server()
    ann, bob = (join(server, name) for name in ("Ann", "Bob"))
    ann.wait_media_from("Bob")
    bob.wait_media_from("Ann")
    ufrag = ann.path()["ufrag"]

    ann.page.evaluate("sluice.pc.restartIce()")
    ann.page.poll(
        lambda: (path := ann.path()) and path["ufrag"] != ufrag, 10, "a path with a new ufrag"
    )
    ann.wait_connected()
    assert_media_flows([ann, bob], 2.0, STARTING)


def test_a_token_is_asked_for_and_kept(start_server: StartServer, join: Join) -> None:
    token = "a-token-for-this-test"
    server = start_server(token=token)
    ann = join(server, "Ann")
    ann.page.wait_for("document.getElementById('token-dialog').open", 10, "the question")
    ann.page.evaluate(f"document.getElementById('token').value = '{token}'")
    ann.page.evaluate("document.querySelector('#token-dialog [value=use]').click()")
    ann.wait_connected()
    assert ann.page.evaluate("sessionStorage.getItem('sluice-token')") == token


def test_a_full_call_is_said_in_plain_words(start_server: StartServer, join: Join) -> None:
    server = start_server("--set=limits.sessions_per_call=1")
    join(server, "Ann").wait_connected()
    bob = join(server, "Bob")
    bob.page.poll(bob.notice, 10, "a message")
    assert bob.notice().startswith("The call is full"), bob.notice()
    assert bob.page.evaluate("sluice.state") == "ended"


def test_who_denies_camera_and_microphone_joins_without_them(
    start_server: StartServer, join: Join
) -> None:
    server = start_server()
    denied = """
      navigator.mediaDevices.getUserMedia =
        () => Promise.reject(new DOMException("denied", "NotAllowedError"));
    """
    ann = join(server, "Ann", before_load=denied)
    ann.wait_connected()
    assert "not allowed" in ann.notice()
