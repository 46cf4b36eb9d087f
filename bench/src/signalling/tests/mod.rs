//! Conversations with a real server: joining, media, leaving, and what goes wrong.

mod person;
mod server;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sluice_engine::clock;
use sluice_engine::io::Wake;

use super::{ClientNumber, PENDING_MAX, Signalling, account};
use crate::conversation::{Heard, Request, Source, Target, Wish};
use person::Person;
use server::Server;

/// How long anything may take: this machine may have other things to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// Packets that have to arrive.
const ENOUGH: usize = 20;

/// Waits in a test; nothing in the program waits like this.
fn pause(time: Duration) {
    let (_never, timer) = sync_channel::<()>(1);
    assert!(timer.recv_timeout(time).is_err());
}

struct Doorbell(SyncSender<()>);

impl Wake for Doorbell {
    fn wake(&self) {
        // One ring that waits is as good as many.
        let _ = self.0.try_send(());
    }
}

/// A worker with its people.
struct World {
    target: Target,
    signalling: Signalling,
    bell: Receiver<()>,
    people: Vec<Person>,
}

impl World {
    fn new(target: Target) -> Self {
        let (ring, bell) = sync_channel(1);
        let signalling = Signalling::start(&target, Arc::new(Doorbell(ring))).unwrap();
        Self { target, signalling, bell, people: Vec::new() }
    }

    fn join(&mut self, call: &str, sources: &[Source]) -> usize {
        let number = self.people.len() as u32;
        let person = Person::new(&self.target, call, number, sources);
        self.signalling.add(person.number, &person.session);
        self.people.push(person);
        self.people.len() - 1
    }

    fn turn(&mut self) {
        let now = clock::now();
        while let Some((number, heard)) = self.signalling.poll() {
            let mut people = self.people.iter_mut();
            let person = people.find(|person| person.number == number).unwrap();
            person.conversation.handle(now, heard);
        }
        for person in &mut self.people {
            person.turn(now, &mut self.signalling);
        }
        // Woken by signalling, or for what the sockets have.
        let _ = self.bell.recv_timeout(Duration::from_millis(5));
    }

    /// Lets everything go on until something is so.
    fn run_until(&mut self, what: &str, is_so: impl Fn(&[Person]) -> bool) {
        let start = clock::now();
        while !is_so(&self.people) {
            for person in &self.people {
                assert_eq!(person.failure, None, "{} while waiting for {what}", person.session);
            }
            assert!(clock::now().since(start) < PATIENCE, "{what} did not happen");
            self.turn();
        }
    }

    /// Lets one send until the others have enough of each source.
    fn talk(&mut self, who: usize, sources: &[(Source, Option<&str>)]) {
        let start = clock::now();
        let has_enough = |person: &Person| {
            sources.iter().all(|&(source, rid)| person.count(source, rid) >= ENOUGH)
        };
        let others = |people: &[Person]| {
            people.iter().enumerate().filter(|(at, _)| *at != who).all(|(_, p)| has_enough(p))
        };
        while !others(&self.people) {
            assert!(clock::now().since(start) < PATIENCE, "{sources:?} did not arrive");
            for person in &self.people {
                assert_eq!(person.failure, None, "{}", person.session);
            }
            self.people[who].send_media();
            self.turn();
        }
    }

    fn leave(&mut self) {
        for person in &mut self.people {
            person.leave();
        }
        let start = clock::now();
        self.turn();
        while self.signalling.pending() > 0 {
            assert!(clock::now().since(start) < PATIENCE, "the clients did not leave");
            self.turn();
        }
    }
}

/// Sessions by the server's own metrics.
fn sessions(target: &Target) -> f64 {
    let metrics = account::get(target, "/metrics").unwrap().body;
    let lines = metrics.lines().filter(|line| line.starts_with("sluice_sessions"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn wait_until_empty(target: &Target) {
    let start = clock::now();
    while sessions(target) > 0.0 {
        assert!(clock::now().since(start) < PATIENCE, "the server kept sessions");
        pause(Duration::from_millis(20));
    }
}

const TALK: [(Source, Option<&str>); 2] = [(Source::Audio, None), (Source::Screen, None)];

#[test]
fn two_meet_over_rtcds_api() {
    let server = Server::start(&[]);
    let mut target = server.target("rtcd");
    account::prepare(&mut target).unwrap();
    let mut world = World::new(target.clone());
    let speaker = world.join("rtcdcall", &[Source::Audio, Source::Screen]);
    world.join("rtcdcall", &[]);
    world.run_until("both ready", |people| people.iter().all(|p| p.is_ready && p.is_connected()));
    world.talk(speaker, &TALK);
    assert_eq!(sessions(&target), 2.0);

    // Pings are answered, and a muted voice is not heard.
    let pongs =
        |person: &Person| person.channel_messages.iter().filter(|m| m.last() == Some(&2)).count();
    world.run_until("pongs", |people| people.iter().all(|p| pongs(p) >= 2));
    world.people[speaker].conversation.set_muted(clock::now(), true);
    let start = clock::now();
    while clock::now().since(start) < Duration::from_millis(300) {
        world.turn();
    }
    let before = world.people[1].count(Source::Audio, None);
    let screen = world.people[1].count(Source::Screen, None);
    while world.people[1].count(Source::Screen, None) < screen + ENOUGH {
        world.people[speaker].send_media();
        world.turn();
    }
    assert_eq!(world.people[1].count(Source::Audio, None), before);
    world.people[speaker].conversation.set_muted(clock::now(), false);
    world.talk(speaker, &TALK);
    let now = world.people[1].count(Source::Audio, None);
    while world.people[1].count(Source::Audio, None) < now + ENOUGH {
        world.people[speaker].send_media();
        world.turn();
    }

    // Somebody who comes late is shown what is there, and talks, too.
    let late = world.join("rtcdcall", &[Source::Audio]);
    world.run_until("the third ready", |people| people[late].is_ready);
    world.talk(speaker, &TALK);
    world.people[speaker].received.clear();
    world.people[1].received.clear();
    world.talk(late, &[(Source::Audio, None)]);

    world.leave();
    wait_until_empty(&target);
    drop(world);
    account::finish(&target).unwrap();
    let mut again = target.clone();
    again.account = None;
    assert!(account::finish(&again).is_ok(), "nothing to take back");
    assert!(account::finish(&target).unwrap_err().contains("/unregister"), "it is gone");
}

#[test]
fn a_screen_in_two_layers_goes_over_rtcds_api() {
    let server = Server::start(&[]);
    let mut target = server.target("rtcd");
    account::prepare(&mut target).unwrap();
    let mut world = World::new(target);
    let speaker = world.join("layers", &[Source::SimulcastScreen]);
    world.join("layers", &[]);
    world.run_until("both ready", |people| people.iter().all(|p| p.is_ready && p.is_connected()));
    let stream = &world.people[speaker].sends[0];
    let rids: Vec<_> = stream.layers.iter().filter_map(|(_, rid)| rid.as_deref()).collect();
    assert_eq!(rids, ["l", "h"]);
    world.talk(speaker, &[(Source::SimulcastScreen, Some("l"))]);
    world.leave();
}

#[test]
fn two_meet_over_the_native_api() {
    let server = Server::start(&[]);
    let target = server.target("sluice");
    let mut world = World::new(target.clone());
    // The receiver is there first and learns of what is published over its WebSocket.
    world.join("native", &[]);
    world.run_until("the receiver ready", |people| people[0].is_ready);
    let speaker = world.join("native", &[Source::Audio, Source::Screen]);
    world.run_until("both connected", |people| {
        people.iter().all(|p| p.is_ready && p.is_connected())
    });
    world.talk(speaker, &TALK);
    // Who comes later has the server's offer in the answer to its request.
    world.join("native", &[]);
    world.run_until("the third", |people| people[2].is_ready && people[2].is_connected());
    world.talk(speaker, &TALK);
    world.leave();
    wait_until_empty(&target);
}

#[test]
fn two_meet_over_whip_and_whep() {
    let server = Server::start(&[]);
    let target = server.target("whip");
    let mut world = World::new(target.clone());
    // The player is there first and asks until something is published.
    world.join("whip", &[]);
    world.turn();
    let speaker = world.join("whip", &[Source::Audio, Source::Screen]);
    world.run_until("both connected", |people| {
        people.iter().all(|p| p.is_ready && p.is_connected())
    });
    world.talk(speaker, &TALK);
    world.leave();
    wait_until_empty(&target);
}

#[test]
fn simulcast_that_a_server_does_not_take_is_said() {
    let server = Server::start(&[]);
    let mut world = World::new(server.target("whip"));
    world.join("layers", &[Source::SimulcastScreen]);
    while world.people[0].failure.is_none() {
        world.turn();
    }
    let why = world.people[0].failure.clone().unwrap();
    assert!(why.contains("takes no simulcast"), "{why}");
    world.leave();
    wait_until_empty(&world.target.clone());
}

#[test]
fn a_server_that_registers_nobody_asks_for_an_account() {
    let server = Server::start(&[("RTCD_API_SECURITY_ALLOWSELFREGISTRATION", "false")]);
    let mut target = server.target("rtcd");
    let error = account::prepare(&mut target).unwrap_err();
    assert!(error.contains("give --rtcd-client and --rtcd-key"), "{error}");
    target.account =
        Some(crate::conversation::Account { client: "nobody".into(), key: "x".repeat(32) });
    assert_eq!(account::prepare(&mut target), Ok(()), "an account is not replaced");
    let (ring, _bell) = sync_channel(1);
    let error = Signalling::start(&target, Arc::new(Doorbell(ring))).err().unwrap();
    assert!(error.contains("does not know the account"), "{error}");
}

#[test]
fn a_server_that_ends_is_noticed() {
    let mut server = Server::start(&[]);
    let mut target = server.target("rtcd");
    account::prepare(&mut target).unwrap();
    let mut world = World::new(target);
    world.join("short", &[]);
    world.run_until("ready", |people| people[0].is_ready);
    server.kill();
    let start = clock::now();
    while world.people[0].failure.is_none() {
        // Its media socket may be told first; the engine's client takes that as loss.
        while let Some((_, heard)) = world.signalling.poll() {
            world.people[0].conversation.handle(clock::now(), heard);
        }
        while let Some(wish) = world.people[0].conversation.poll_wish() {
            if let Wish::Fail(why) = wish {
                world.people[0].failure = Some(why);
            }
        }
        assert!(clock::now().since(start) < PATIENCE, "nobody noticed");
        pause(Duration::from_millis(5));
    }
    let why = world.people[0].failure.clone().unwrap();
    assert!(why.contains("the connection to the server ended"), "{why}");
    // Who comes afterwards hears it, too.
    world.signalling.add(ClientNumber(9), "late");
    world.signalling.send(ClientNumber(9), Wish::Message(Vec::new()));
    let heard = loop {
        if let Some((ClientNumber(9), heard)) = world.signalling.poll() {
            break heard;
        }
        world.bell.recv_timeout(PATIENCE).unwrap();
    };
    assert!(matches!(heard, Heard::SocketClosed(_)), "{heard:?}");
    assert_eq!(world.signalling.pending(), 0);
}

fn get(path: &str) -> Wish {
    let (content_type, body) = ("", String::new());
    Wish::Request(Request { method: "GET", path: path.to_owned(), content_type, body })
}

#[test]
fn requests_of_a_client_are_answered_in_their_order() {
    let server = Server::start(&[]);
    let mut world = World::new(server.target("whip"));
    let count = 100;
    for number in 0..count {
        world.signalling.add(ClientNumber(number), &number.to_string());
        for path in ["/version", "/nowhere", "/readyz"] {
            world.signalling.send(ClientNumber(number), get(path));
        }
    }
    let mut statuses = vec![Vec::new(); count as usize];
    while statuses.iter().any(|list| list.len() < 3) {
        match world.signalling.poll() {
            Some((ClientNumber(number), Heard::Response(answer))) => {
                statuses[number as usize].push(answer.unwrap().status);
            }
            Some(other) => panic!("{other:?}"),
            None => world.bell.recv_timeout(PATIENCE).unwrap(),
        }
    }
    assert!(statuses.iter().all(|list| list == &[200, 404, 200]), "{statuses:?}");
    // The last answer is brought just before it is counted.
    while world.signalling.pending() > 0 {
        pause(Duration::from_millis(1));
    }
}

#[test]
fn nothing_is_brought_to_who_took_the_number_of_another() {
    let server = Server::start(&[]);
    let mut world = World::new(server.target("whip"));
    world.signalling.add(ClientNumber(1), "first");
    world.signalling.send(ClientNumber(1), get("/nowhere"));
    world.signalling.add(ClientNumber(1), "second");
    world.signalling.send(ClientNumber(1), get("/version"));
    while world.signalling.pending() > 0 {
        pause(Duration::from_millis(5));
    }
    let heard: Vec<_> = std::iter::from_fn(|| world.signalling.poll()).collect();
    let [(ClientNumber(1), Heard::Response(Ok(answer)))] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(answer.status, 200);
}

#[test]
fn what_is_too_much_to_carry_is_refused_at_once() {
    // Nobody answers here: the port is bound, and nothing accepts.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut world = World::new(Target::parse(&format!("whip=http://127.0.0.1:{port}")).unwrap());
    world.signalling.add(ClientNumber(1), "one");
    for _ in 0..PENDING_MAX {
        world.signalling.send(ClientNumber(1), get("/"));
    }
    assert!(world.signalling.poll().is_none());
    world.signalling.send(ClientNumber(1), get("/"));
    let Some((_, Heard::Response(Err(why)))) = world.signalling.poll() else { panic!() };
    assert!(why.contains("wait already"), "{why}");
    assert_eq!(world.signalling.pending(), PENDING_MAX);
}

#[test]
fn targets_of_strangers_are_told_apart() {
    let of = |url: &str| super::public_address(&Target::parse(&format!("rtcd={url}")).unwrap());
    assert_eq!(of("http://localhost:1"), Ok(None));
    assert_eq!(of("http://[fd00::1]:1"), Ok(None));
    assert_eq!(of("http://192.0.2.1:1"), Ok(Some([192, 0, 2, 1].into())));
    assert!(of("http://no-such-host.invalid").unwrap_err().contains("no-such-host.invalid"));
}

#[test]
fn nobody_at_the_address_is_said() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut target = Target::parse(&format!("rtcd=http://127.0.0.1:{free}")).unwrap();
    for error in
        [account::prepare(&mut target).unwrap_err(), account::get(&target, "/").unwrap_err()]
    {
        assert!(error.contains(&format!("127.0.0.1:{free}")), "{error}");
    }
    let (ring, _bell) = sync_channel(1);
    assert!(Signalling::start(&target, Arc::new(Doorbell(ring))).is_err());
}
