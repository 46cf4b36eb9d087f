//! What is published, what it is taken for, and who gets it.

use super::*;

#[test]
fn muting_silences_every_voice() {
    let mut world = World::with(&["ann", "bob"]);
    world.send("ann", "audio", "mic");
    world.send("ann", "audio", "other");
    world.rtc("ann", RtcKind::Mute, "");
    assert_eq!(world.muted, world.tracks_of("ann").into_iter().collect());
    world.send("ann", "audio", "third");
    assert_eq!(world.muted.len(), 3, "what comes later is a voice too");
    world.rtc("ann", RtcKind::Unmute, "");
    assert!(world.muted.is_empty());
}

#[test]
fn the_sound_of_a_screen_is_heard_though_its_owner_is_muted() {
    let mut world = World::with(&["ann", "bob"]);
    world.send("ann", "audio", "mic");
    world.rtc("ann", RtcKind::Mute, "");
    // Descriptions may take the data channel and overtake what takes the WebSocket.
    world.send("ann", "audio", "screen");
    world.send("ann", "video", "screen");
    world.screen_on("ann", "screen");
    let mic = world.tracks_of("ann")[0];
    assert_eq!(world.muted, [mic].into());
    assert_eq!(world.gets("bob"), ["screen ann", "screen-audio ann", "voice ann"]);
}

#[test]
fn who_unmutes_before_the_voice_comes_back_is_heard() {
    let mut world = World::with(&["ann", "bob"]);
    let mic = world.send("ann", "audio", "mic");
    world.rtc("ann", RtcKind::Mute, "");
    world.stop("ann", mic);
    world.rtc("ann", RtcKind::Unmute, "");
    world.send("ann", "audio", "mic");
    let track = world.tracks_of("ann")[0];
    assert!(!world.muted.contains(&track));
}

#[test]
fn who_is_muted_stays_so_when_the_voice_is_described_anew() {
    let mut world = World::with(&["ann", "bob"]);
    let mic = world.send("ann", "audio", "mic");
    world.rtc("ann", RtcKind::Mute, "");
    world.user("ann").client.transceivers[mic].ssrc += 500;
    world.offer("ann");
    let track = world.tracks_of("ann")[0];
    assert!(world.muted.contains(&track));
}

#[test]
fn a_voice_that_ends_while_it_speaks_is_told_to_be_off() {
    let mut world = World::with(&["ann", "bob"]);
    let mic = world.send("ann", "audio", "mic");
    let (session, track) = (world.user("ann").number, world.tracks_of("ann")[0]);
    world.report(Report::Voice { session, track, active: true });
    world.stop("ann", mic);
    assert_eq!(world.voices, [("ann".to_owned(), true), ("ann".to_owned(), false)]);
}

#[test]
fn another_screen_of_the_same_owner_takes_the_place_of_the_first() {
    let mut world = World::with(&["ann", "bob"]);
    for stream in ["first", "second"] {
        world.screen_on("ann", stream);
        world.send("ann", "audio", stream);
        world.send("ann", "video", stream);
    }
    assert_eq!(world.gets("bob"), ["screen ann", "screen-audio ann"]);
    let second = world.tracks_of("ann")[2..].to_vec();
    let bob = world.user("bob").number;
    assert!(world.legs[&bob].values().all(|track| second.contains(track)));
    world.screen_on("ann", "first");
    assert!(world.legs[&bob].values().all(|track| !second.contains(track)));
    assert_eq!(world.gets("bob"), ["screen ann", "screen-audio ann"]);
}

#[test]
fn a_screen_comes_back_under_the_same_stream() {
    let mut world = World::with(&["ann", "bob"]);
    world.screen_on("ann", "screen");
    world.send("ann", "video", "screen");
    world.rtc("ann", RtcKind::ScreenOff, "");
    assert!(world.gets("bob").is_empty());
    world.screen_on("ann", "screen");
    assert_eq!(world.gets("bob"), ["screen ann"]);
}

#[test]
fn the_slot_is_free_again_when_its_owner_stops_or_leaves() {
    let mut world = World::with(&["ann", "bob", "cyd"]);
    for name in ["ann", "bob"] {
        world.screen_on(name, name);
        world.send(name, "video", name);
    }
    assert_eq!(world.gets("cyd"), ["screen ann"]);
    world.rtc("bob", RtcKind::ScreenOff, "");
    assert_eq!(world.gets("cyd"), ["screen ann"], "it was not bob's to stop");
    world.leave("ann");
    assert!(world.gets("cyd").is_empty());
    world.screen_on("bob", "bob");
    assert_eq!(world.gets("cyd"), ["screen bob"]);
}

#[test]
fn a_camera_in_two_codecs_goes_to_each_in_one() {
    let mut world = World::with(&["ann", "bob"]);
    world.join("cyd", true);
    world.video_on("ann", "camera");
    world.send("ann", "video", "camera");
    let client = &mut world.user("ann").client;
    let index = client.add("video", true, false);
    client.transceivers[index].stream = Some("camera".to_owned());
    client.send_av1(index);
    world.offer("ann");
    let tracks = world.tracks_of("ann");
    for (name, expected) in [("bob", tracks[0]), ("cyd", tracks[1])] {
        let number = world.user(name).number;
        assert_eq!(world.legs[&number].values().collect::<Vec<_>>(), [&expected], "{name}");
    }
}

#[test]
fn a_camera_that_was_restarted_is_still_one_when_it_is_described_anew() {
    let mut world = World::with(&["ann", "bob"]);
    let camera = world.send("ann", "video", "camera");
    world.video_on("ann", "camera");
    world.rtc("ann", RtcKind::VideoOff, "");
    world.video_on("ann", "restarted");
    assert_eq!(world.gets("bob"), ["video ann"]);
    world.user("ann").client.transceivers[camera].ssrc += 500;
    world.offer("ann");
    assert_eq!(world.gets("bob"), ["video ann"]);
}

#[test]
fn a_session_publishes_no_more_than_a_client_has() {
    let mut world = World::with(&["ann", "bob"]);
    let client = &mut world.user("ann").client;
    for _ in 0..17 {
        client.add("audio", true, false);
    }
    assert!(!world.offer("ann"));
    assert!(world.gets("bob").is_empty());
}
