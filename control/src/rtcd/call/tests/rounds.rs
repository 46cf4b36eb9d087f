//! The rounds of our offers.

use super::*;
use crate::rtcd::session::ANSWER_MAX;

#[test]
fn the_next_channel_is_used_when_the_first_closes() {
    let mut world = World::with(&["ann", "bob"]);
    world.open_channel("bob", ChannelId(2));
    world.close_channel("bob", CHANNEL);
    world.send("ann", "audio", "mic");
    assert_eq!(world.gets("bob"), ["voice ann"]);
    world.close_channel("bob", ChannelId(2));
    world.send("ann", "audio", "other");
    assert_eq!(world.gets("bob"), ["voice ann"], "nothing can be told without a channel");
    world.open_channel("bob", ChannelId(4));
    assert_eq!(world.gets("bob"), ["voice ann", "voice ann"]);
}

#[test]
fn an_offer_without_an_answer_is_made_again() {
    let mut world = World::with(&["ann", "bob"]);
    world.user("bob").answers = false;
    world.send("ann", "audio", "mic");
    assert_eq!(world.user("bob").offers.len(), 1);
    world.user("bob").answers = true;
    world.pass(ANSWER_MAX + Duration::from_millis(499));
    assert!(world.gets("bob").is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.gets("bob"), ["voice ann"]);
}

#[test]
fn a_publisher_that_leaves_during_a_round_leaves_nothing_behind() {
    let mut world = World::with(&["ann", "bob", "cyd"]);
    world.user("bob").answers = false;
    world.send("ann", "audio", "mic");
    world.leave("ann");
    let offer = world.user("bob").offers.remove(0);
    let answer = world.user("bob").client.answer(&offer, || Verdict::Take);
    world.user("bob").answers = true;
    world.describe("bob", DescriptionKind::Answer, &answer);
    assert!(world.gets("bob").is_empty());
    world.send("cyd", "audio", "mic");
    assert_eq!(world.gets("bob"), ["voice cyd"]);
}

#[test]
fn who_holds_the_lock_for_ever_still_gets_what_comes() {
    let mut world = World::with(&["ann", "bob"]);
    let session = world.user("bob").number;
    let (kind, bytes) = (DataKind::Binary, vec![7]);
    world.report(Report::Data { session, channel: CHANNEL, kind, bytes });
    world.send("ann", "audio", "mic");
    assert!(world.gets("bob").is_empty());
    world.pass(super::super::super::lock::CLIENT_HOLD_MAX);
    assert_eq!(world.gets("bob"), ["voice ann"]);
}

#[test]
fn a_map_that_went_down_with_its_channel_takes_its_offer_along() {
    let mut world = World::with(&["ann", "bob"]);
    world.confirms = false;
    world.send("ann", "audio", "mic");
    world.close_channel("bob", CHANNEL);
    world.pass(ANSWER_MAX);
    assert!(world.gets("bob").is_empty(), "bob could not look it up");
    world.confirms = true;
    world.open_channel("bob", ChannelId(2));
    assert_eq!(world.gets("bob"), ["voice ann"]);
}
