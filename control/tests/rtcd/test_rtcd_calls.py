"""People in calls over rtcd's interface: headless Chromium, a relay in place of the plugin, Sluice."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from caller import Caller
from chromium import Browser
from participant import Streams
from relay import VOICE_OFF, VOICE_ON, Relay
from sluice import TARGET, Server, io_uring_allowed

Join = Callable[..., Caller]
StartRelay = Callable[..., Relay]

MEASURED_S = 2.0
# Jitter buffers are still finding their size in the seconds that are measured.
SAMPLES_PER_S_MIN = 0.8 * 48_000
LOST_SHARE_MAX = 0.02
LAYER_TIMEOUT_S = 40.0
# The low layer has at most 5 pictures a second and the high one 20; two cores that encode and
# decode everything may not reach the latter.
LOW_FRAMES_PER_S_MAX = 6.0
HIGH_FRAMES_PER_S_MIN = 9.0


@pytest.fixture
def start_relay(start_server: Callable[..., Server]) -> Iterator[StartRelay]:
    """Starts a server with a relay before it; both are stopped after the test."""
    relays: list[Relay] = []

    def start(*flags: str) -> Relay:
        server = start_server("--set=api.security.allow_self_registration=true", *flags)
        relays.append(Relay(server.url))
        return relays[-1]

    yield start
    for relay in relays:
        relay.close()


@pytest.fixture
def join(browser: Browser) -> Iterator[Join]:
    """Lets people join calls; after the test nothing may have gone wrong on any page."""
    people: list[Caller] = []

    def join(relay: Relay, name: str, **options: str) -> Caller:
        people.append(Caller(browser, relay, name, **options))
        return people[-1]

    yield join
    problems = {person.name: person.problems() for person in people}
    dropped = {person.name: person.seen("videoDropped") for person in people}
    for person in people:
        person.page.close()
    assert not any(problems.values()), problems
    assert not any(dropped.values()), f"pictures came before the media map knew them: {dropped}"


def talk(*people: Caller) -> None:
    """Lets everybody unmute, one after the other."""
    for person in people:
        person.do("unmute()")


def assert_flows(*people: Caller) -> None:
    """All that arrives brings sound or pictures all the time of a measurement."""
    before = [(time.monotonic(), person.streams()) for person in people]
    time.sleep(MEASURED_S)  # the length of the measurement, not a wait for something
    for person, (began, streams) in zip(people, before, strict=True):
        assert streams, f"{person.name} receives nothing"
        after, seconds = person.streams(), time.monotonic() - began
        assert set(after) == set(streams)
        for key, stream in after.items():
            new = stream.since(streams[key])
            said = f"{person.name} from {key}: {new} in {seconds:.1f} s"
            assert new.packets > 0, said
            assert new.packets_lost <= LOST_SHARE_MAX * new.packets, said
            if stream.kind == "video":
                assert new.frames_decoded > 0, said
            else:
                assert new.samples >= SAMPLES_PER_S_MIN * seconds, said
                assert new.audio_energy > 0, said


def flows(person: Caller, key: tuple[str, str]) -> bool:
    """Whether packets of one stream come in the time of a measurement."""
    before = person.streams()[key]
    time.sleep(MEASURED_S)  # the length of the measurement
    return person.streams()[key].since(before).packets > 0


@pytest.mark.parametrize(
    ("signalling", "transport", "shards", "backend"),
    [("plugin", "udp", 1, "uring"), ("channel", "udp", 2, "mmsg"), ("plugin", "tcp", 1, "mmsg")],
)
def test_three_people_hear_each_other(
    start_relay: StartRelay, join: Join, signalling: str, transport: str, shards: int, backend: str
) -> None:
    if backend == "uring" and not io_uring_allowed():
        pytest.skip("this kernel or container refuses io_uring")
    relay = start_relay(f"--shards={shards}", f"--backend={backend}")
    options = {"transport": transport} | ({"dc": "on"} if signalling == "channel" else {})
    ann, bob, cleo = everyone = [join(relay, name, **options) for name in ("Ann", "Bob", "Cleo")]
    talk(*everyone)

    ann.wait_hearing("Bob", "Cleo")
    bob.wait_hearing("Ann", "Cleo")
    cleo.wait_hearing("Ann", "Bob")
    assert [person.path()["protocol"] for person in everyone] == [transport] * 3
    assert_flows(*everyone)
    for person in everyone:
        over_plugin, over_channel = relay.offers_to(person.session), person.seen("offersByDataChannel")
        assert bool(over_plugin) == (signalling == "plugin"), over_plugin
        assert bool(over_channel) == (signalling == "channel"), over_channel
        # Each offer has a map before it.
        assert person.seen("mediaMaps") >= person.seen("offersReceived") > 0
    ann.page.screenshot(TARGET / "screenshots" / f"rtcd-{signalling}-{transport}.png")


def test_mute_voice_activity_and_the_small_messages(start_relay: StartRelay, join: Join) -> None:
    relay = start_relay()
    ann = join(relay, "Ann", metrics_ms="1000")
    bob = join(relay, "Bob")
    talk(ann)
    bob.wait_hearing("Ann")
    about_ann = {"to_server": False, "kind": "vad", "session": ann.session}
    relay.wait_for(lambda: relay.messages(rtc_type=VOICE_ON, **about_ann), 15, "Ann speaking")

    offers = bob.seen("offersReceived"), ann.seen("offersMade")
    ann.do("mute()")
    relay.wait_for(lambda: relay.messages(rtc_type=VOICE_OFF, **about_ann), 5, "Ann silent")
    assert not flows(bob, ("Ann", "voice"))
    ann.do("unmute()")
    assert flows(bob, ("Ann", "voice"))
    assert (bob.seen("offersReceived"), ann.seen("offersMade")) == offers, "muting renegotiated"

    ann.do("peer.pingAsText()")
    ann.wait("caller.peer.seen.texts.includes('pong')", "the answer to a ping as text")
    ann.wait("caller.peer.seen.pongs >= 2", "answers to pings")

    def rtt_counted() -> bool:
        with urllib.request.urlopen(f"{relay.server_url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        [count] = [line for line in lines if line.startswith("rtcd_rtc_client_rtt_count")] or ["0"]
        return float(count.split()[-1]) > 0

    ann.page.poll(rtt_counted, 10, "Ann's round-trip time in the metrics")


def test_a_shared_screen_is_seen_and_makes_way_for_the_next(
    start_relay: StartRelay, join: Join
) -> None:
    relay = start_relay()
    ann, bob, cleo = everyone = [join(relay, name) for name in ("Ann", "Bob", "Cleo")]
    ann.do("shareScreen({ audio: true })")
    shared = [("Ann", "screen"), ("Ann", "screen-audio")]
    bob.wait_receiving(*shared)
    cleo.wait_receiving(*shared)
    assert_flows(bob, cleo)
    bob.page.screenshot(TARGET / "screenshots" / "rtcd-screen.png")

    # There is one screen in a call: a second one is not shown to anybody.
    bob.do("shareScreen()")
    assert flows(cleo, ("Ann", "screen"))
    assert set(cleo.streams()) == set(shared)
    assert ann.streams() == {}
    bob.do("stopScreen()")

    ann.do("stopScreen()")
    bob.wait_receiving()
    cleo.wait_receiving()
    cleo.do("shareScreen()")
    ann.wait_receiving(("Cleo", "screen"))
    bob.wait_receiving(("Cleo", "screen"))
    talk(*everyone)
    ann.wait_receiving(("Cleo", "screen"), ("Bob", "voice"), ("Cleo", "voice"))


def frames_per_s(person: Caller, publisher: str) -> float:
    """Pictures of a screen that come in a second, counted over a measurement."""
    began, before = time.monotonic(), person.report(publisher, "screen")["framesReceived"]
    time.sleep(MEASURED_S)  # the length of the measurement
    after = person.report(publisher, "screen")["framesReceived"]
    return (after - before) / (time.monotonic() - began)


def test_a_simulcast_screen_rises_to_its_high_layer_without_renegotiation(
    start_relay: StartRelay, join: Join
) -> None:
    relay = start_relay()
    ann, bob, cleo = [join(relay, name, simulcast="on") for name in ("Ann", "Bob", "Cleo")]
    ann.do("shareScreen()")
    watchers = [bob, cleo]
    first = {}
    for person in watchers:
        person.wait_receiving(("Ann", "screen"))
        first[person.name] = person.report("Ann", "screen"), person.seen("offersReceived")

    # The layers' rates are measured for some seconds before a higher one is thought of.
    assert frames_per_s(cleo, "Ann") <= LOW_FRAMES_PER_S_MAX

    deadline = time.monotonic() + LAYER_TIMEOUT_S
    for person in watchers:
        while (rate := frames_per_s(person, "Ann")) < HIGH_FRAMES_PER_S_MIN:
            sent = [(s.get("rid"), s.get("framesPerSecond")) for s in ann.do("sent()")]
            assert time.monotonic() < deadline, f"{person.name} has {rate:.1f} a second of {sent}"
        begin, offers = first[person.name]
        report = person.report("Ann", "screen")
        assert (report["mid"], report["ssrc"]) == (begin["mid"], begin["ssrc"])
        assert person.seen("offersReceived") == offers
    assert_flows(*watchers)
    # A switch that left a hole would be asked for again and again.
    assert bob.report("Ann", "screen")["packetsLost"] == 0


def test_a_camera_stops_and_starts_again(start_relay: StartRelay, join: Join) -> None:
    relay = start_relay()
    ann, bob = everyone = [join(relay, name) for name in ("Ann", "Bob")]
    talk(*everyone)
    for person in everyone:
        person.do("startCamera()")
    ann.wait_receiving(("Bob", "voice"), ("Bob", "video"))
    bob.wait_receiving(("Ann", "voice"), ("Ann", "video"))
    assert_flows(*everyone)
    bob.page.screenshot(TARGET / "screenshots" / "rtcd-camera.png")

    offers = [person.seen("offersReceived") for person in everyone]
    ann.do("stopCamera()")
    bob.page.poll(lambda: not flows(bob, ("Ann", "video")), 10, "Ann's camera stopping")
    ann.do("startCamera()")
    bob.page.poll(lambda: flows(bob, ("Ann", "video")), 10, "Ann's camera starting again")
    assert [person.seen("offersReceived") for person in everyone] == offers


def test_people_come_and_go(start_relay: StartRelay, join: Join) -> None:
    relay = start_relay()
    ann, bob = [join(relay, name) for name in ("Ann", "Bob")]
    talk(ann, bob)
    late = join(relay, "Late")
    late.wait_hearing("Ann", "Bob")

    left = bob.session
    bob.do("leave()")
    late.wait_hearing("Ann")
    ann.wait_hearing()
    closed = {"to_server": False, "kind": "close", "session": left}
    relay.wait_for(lambda: relay.messages(**closed), 10, "the end of Bob's session")

    sections = []
    for visit in range(5):
        guest = join(relay, f"Guest{visit}")
        talk(guest)
        ann.wait_hearing(guest.name)
        guest.do("leave()")
        ann.wait_hearing()
        sections.append(ann.sections())
    assert sections == sections[:1] * 5, "sections of those who left were not used again"
    late.wait_hearing("Ann")
    assert_flows(late)


def test_offers_of_both_sides_at_once_get_through(start_relay: StartRelay, join: Join) -> None:
    relay = start_relay()
    # Clients of servers before 1.1.0 have no lock, which would prevent this.
    ann, bob = [join(relay, name, locking="off") for name in ("Ann", "Bob")]
    relay.hold(ann.session)
    talk(bob)
    relay.wait_for(lambda: relay.offers_to(ann.session), 10, "an offer to Ann")
    ann.do("unmute()")
    ann.wait("caller.peer.pc.signalingState === 'have-local-offer'", "an offer of her own")
    relay.release(ann.session)

    ann.wait_hearing("Bob")
    bob.wait_hearing("Ann")
    assert ann.seen("offersRolledBack") == 1
    assert_flows(ann, bob)


def test_the_lock_keeps_one_side_waiting_for_the_other(start_relay: StartRelay, join: Join) -> None:
    relay = start_relay()
    ann, bob = [join(relay, name) for name in ("Ann", "Bob")]

    # The server waits for Ann.
    ann.do("peer.lock.take()")
    offers = ann.seen("offersReceived")
    talk(bob)
    time.sleep(MEASURED_S)  # in which an offer would have come
    assert (ann.seen("offersReceived"), ann.streams()) == (offers, {})
    ann.do("peer.lock.release()")
    ann.wait_hearing("Bob")

    # Ann waits for the server.
    cleo = join(relay, "Cleo")
    relay.hold(ann.session)
    offers = len(relay.offers_to(ann.session))
    talk(cleo)
    relay.wait_for(lambda: len(relay.offers_to(ann.session)) > offers, 10, "an offer to Ann")
    ann.begin("unmute()")
    ann.wait("caller.peer.lock.answers.includes(false)", "a refusal")
    relay.release(ann.session)
    ann.wait_hearing("Bob", "Cleo")
    bob.wait_hearing("Ann", "Cleo")
    assert ann.page.evaluate("caller.peer.lock.answers.at(-1)") is True
    assert ann.seen("offersRolledBack") == 0


def test_a_call_goes_on_while_the_plugins_connection_is_lost(
    start_relay: StartRelay, join: Join
) -> None:
    relay = start_relay()
    ann, bob = [join(relay, name) for name in ("Ann", "Bob")]
    talk(ann, bob)
    ann.wait_hearing("Bob")
    bob.wait_hearing("Ann")

    relay.drop()
    assert_flows(ann, bob)
    relay.connect()
    assert_flows(ann, bob)

    # Nobody told the server where Ann's and Bob's sessions are: it finds them.
    ann.do("reconnect()")
    cleo = join(relay, "Cleo")
    talk(cleo)
    ann.wait_hearing("Bob", "Cleo")
    bob.wait_hearing("Ann", "Cleo")
    cleo.wait_hearing("Ann", "Bob")
    left = ann.session
    ann.do("leave()")
    bob.wait_hearing("Cleo")
    closed = {"to_server": False, "kind": "close", "session": left}
    relay.wait_for(lambda: relay.messages(**closed), 10, "the end of Ann's session")


def test_who_understands_av1_gets_it_and_others_get_vp8(start_relay: StartRelay, join: Join) -> None:
    relay = start_relay()
    ann, bob = [join(relay, name, av1="on") for name in ("Ann", "Bob")]
    if "video/AV1" not in ann.page.evaluate(
        "RTCRtpSender.getCapabilities('video').codecs.map(({ mimeType }) => mimeType)"
    ):
        pytest.skip("this Chromium does not encode AV1")
    old = join(relay, "Old")
    ann.do("shareScreen()")
    for person, codec in ((bob, "video/AV1"), (old, "video/VP8")):
        person.wait_receiving(("Ann", "screen"))
        # Who takes AV1 may see VP8 until AV1 has come.
        person.page.poll(
            lambda person=person, codec=codec: person.report("Ann", "screen")["codec"] == codec,
            10,
            f"{person.name} receiving {codec}",
        )
    assert_flows(bob, old)
