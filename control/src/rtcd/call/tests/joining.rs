//! How sessions begin and end.

use super::*;

#[test]
fn a_first_offer_of_which_nothing_can_be_taken_ends_the_session() {
    let mut world = World::with(&["bob"]);
    world.begin("ann", false);
    let client = &mut world.user("ann").client;
    let index = client.add("application", false, false);
    client.transceivers[index].stopped = true;
    world.offer("ann");
    assert_eq!(world.closed, ["ann"]);
}

#[test]
fn a_session_without_an_offer_ends_and_a_late_one_changes_nothing() {
    let mut world = World::with(&["bob"]);
    world.begin("ann", false);
    world.pass(super::super::super::session::FIRST_OFFER_MAX);
    assert_eq!(world.closed, ["ann"]);
    world.user("ann").client.add("application", false, false);
    assert!(!world.offer("ann"));
    world.leave("ann");
    assert_eq!(world.closed, ["ann"]);
}

#[test]
fn all_end_at_once_without_offers_to_those_who_end_too() {
    let mut world = World::with(&["ann", "bob", "cyd"]);
    world.send("ann", "audio", "mic");
    world.user("bob").answers = false;
    world.act(|call, _, out| call.end(out));
    assert_eq!(world.closed, ["ann", "bob", "cyd"]);
    assert!(world.user("bob").offers.is_empty());
    assert!(world.gauges().iter().all(|line| line.ends_with(" 0")), "{:?}", world.gauges());
}

/// A small generator with a seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// Something that one of four users, or their network, does.
fn disturb(world: &mut World, chance: &mut Chance, closed: &mut [bool; 4]) {
    let which = chance.below(4);
    let name = ["ann", "bob", "cyd", "dan"][which];
    if closed[which] {
        closed[which] = false;
        return world.join(name, chance.below(2) == 0);
    }
    let stream = ["one", "two"][chance.below(2)];
    let before = world.user(name).client.clone();
    match chance.below(14) {
        0 | 1 => drop(world.user(name).client.add("audio", true, false)),
        2 | 3 => {
            let client = &mut world.user(name).client;
            let index = client.add("video", true, false);
            client.transceivers[index].stream = Some(stream.to_owned());
            if chance.below(3) == 0 {
                client.send_av1(index);
            }
        }
        4 | 5 => {
            let sent = &mut world.user(name).client.transceivers;
            let sent: Vec<_> = sent.iter_mut().filter(|t| t.send).collect();
            let count = sent.len().max(1);
            if let Some(chosen) = sent.into_iter().nth(chance.below(count)) {
                chosen.send = false;
            }
        }
        6 => world.screen_on(name, stream),
        7 => world.rtc(name, RtcKind::ScreenOff, ""),
        8 => world.video_on(name, stream),
        9 => world.rtc(name, RtcKind::Mute, ""),
        10 => world.rtc(name, RtcKind::Unmute, ""),
        11 => {
            let user = world.user(name);
            user.answers = !user.answers;
            let late = std::mem::take(&mut user.offers).pop().filter(|_| user.answers);
            if let Some(offer) = late {
                let answer = user.client.answer(&offer, || Verdict::Take);
                return world.describe(name, DescriptionKind::Answer, &answer);
            }
        }
        12 => {
            world.close_channel(name, CHANNEL);
            world.open_channel(name, CHANNEL);
        }
        _ => {
            closed[which] = true;
            world.leave(name);
        }
    }
    if !closed[which] && !world.offer(name) {
        // Glare: what was added is not part of any description.
        world.user(name).client = before;
    }
    world.pass(Duration::from_millis(chance.below(6_000) as u64));
}

#[test]
fn whatever_happens_each_gets_what_is_there_and_nothing_is_left_behind() {
    for seed in 1..=60 {
        let (mut world, mut chance) = (World::new(), Chance(seed));
        let mut closed = [true; 4];
        for _ in 0..60 {
            disturb(&mut world, &mut chance, &mut closed);
        }
        let here: Vec<&str> = world.call.names.keys().map(String::as_str).collect();
        let mut here: Vec<String> = here.into_iter().map(str::to_owned).collect();
        here.sort();
        for name in &here {
            world.user(name).answers = true;
        }
        // Until the last offer that got no answer has been made again.
        world.pass(Duration::from_secs(60));
        for name in &here {
            let number = world.user(name).number;
            let session = &world.call.sessions[&number];
            let others = world.call.sessions.values().filter(|other| other.number != number);
            let wanted: BTreeSet<TrackId> = others
                .flat_map(|other| chosen(&other.published, session.takes_av1()))
                .map(Published::track)
                .collect();
            let legs = world.legs.get(&number).cloned().unwrap_or_default();
            assert_eq!(legs.len(), wanted.len(), "seed {seed}: {name}");
            assert_eq!(legs.into_values().collect::<BTreeSet<_>>(), wanted, "seed {seed}: {name}");
        }
        here.iter().for_each(|name| world.leave(name));
        assert!(world.call.classes.is_empty(), "seed {seed}");
        assert!(world.gauges().iter().all(|line| line.ends_with(" 0")), "{:?}", world.gauges());
    }
}
