use super::*;
use crate::route::Transport;
use crate::wire::stun::{BindingRequest, write_binding_request};

const CONSENT: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(1_000 + seconds))
}

fn route(port: u16) -> Route {
    let remote = ([192, 0, 2, 7], port).into();
    Route { transport: Transport::Udp, local: 0, remote }
}

fn ours() -> Credentials {
    Credentials::new("aaOurUfrag", "OurPasswordOfManyLetters").unwrap()
}

fn theirs() -> Credentials {
    Credentials::new("TheirUfrag", "TheirPasswordOfManyMore").unwrap()
}

fn fresh() -> Credentials {
    Credentials::new("aaNewUfrag", "AnotherPasswordForRestart").unwrap()
}

/// A check as a full, controlling peer makes it, and what the tests vary.
struct Check {
    username: String,
    pwd: String,
    id: Option<u64>,
    nominate: bool,
    controlled: bool,
}

fn check() -> Check {
    let username = format!("{}:{}", ours().ufrag, theirs().ufrag);
    Check { username, pwd: ours().pwd, id: None, nominate: false, controlled: false }
}

impl Check {
    fn nominating(mut self) -> Self {
        self.nominate = true;
        self
    }

    fn with_id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }

    fn under(mut self, local: &Credentials, remote: &str) -> Self {
        self.username = format!("{}:{remote}", local.ufrag);
        self.pwd.clone_from(&local.pwd);
        self
    }

    fn bytes(&self, fixture: &mut Fixture) -> Vec<u8> {
        fixture.ids += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.id.unwrap_or(1 << 32 | fixture.ids).to_be_bytes());
        let request = BindingRequest {
            username: self.username.as_bytes(),
            priority: 1,
            controlling: (!self.controlled).then_some(5),
            controlled: self.controlled.then_some(5),
            use_candidate: self.nominate,
        };
        let key = IntegrityKey::new(self.pwd.as_bytes());
        let mut out = [0; 700];
        let len = write_binding_request(&mut out, TransactionId(id), &request, &key).unwrap();
        out[..len].to_vec()
    }
}

struct Fixture {
    agent: IceLiteAgent,
    reply: [u8; 128],
    ids: u64,
}

impl Fixture {
    fn new() -> Self {
        let agent = IceLiteAgent::new(ours(), Some(theirs()), CONSENT);
        Self { agent, reply: [0; 128], ids: 0 }
    }

    fn take(&mut self, now: Instant, route: Route, bytes: &[u8]) -> Result<Checked, DropReason> {
        let message = Message::parse(bytes).unwrap();
        self.agent.handle_check(now, route, &message, &mut self.reply)
    }

    fn check(&mut self, now: Instant, route: Route, check: Check) -> Result<Checked, DropReason> {
        let bytes = check.bytes(self);
        self.take(now, route, &bytes)
    }

    fn event(&mut self, now: Instant, route: Route, check: Check) -> Option<IceEvent> {
        self.check(now, route, check).unwrap().event
    }

    fn expired(&mut self, now: Instant) -> Vec<Expired> {
        std::iter::from_fn(|| self.agent.handle_timeout(now)).collect()
    }
}

#[test]
fn good_check_is_answered_with_the_address_it_came_from() {
    for remote in ["192.0.2.7:5000", "[2001:db8::7]:5000"] {
        let mut fixture = Fixture::new();
        let route = Route { remote: remote.parse().unwrap(), ..route(1) };
        let bytes = check().bytes(&mut fixture);
        let id = Message::parse(&bytes).unwrap().transaction_id();
        let checked = fixture.take(at(0), route, &bytes).unwrap();
        let reply = Message::parse(&fixture.reply[..checked.reply_len]).unwrap();
        assert_eq!((reply.class(), reply.is_binding()), (Class::Success, true));
        assert_eq!(reply.transaction_id(), id);
        assert_eq!(reply.xor_mapped_address(), Some(route.remote));
        assert!(reply.verify_integrity(&IntegrityKey::new(ours().pwd.as_bytes())));
    }
}

#[test]
fn first_check_validates_and_nomination_selects() {
    let mut fixture = Fixture::new();
    assert!(!fixture.agent.is_valid(route(1)) && !fixture.agent.has_consent(at(0)));
    assert_eq!(fixture.agent.handshake_route(), None);
    let event = fixture.event(at(0), route(1), check());
    assert_eq!(event, Some(IceEvent::Validated(route(1))));
    assert!(fixture.agent.is_valid(route(1)) && fixture.agent.has_consent(at(0)));
    assert_eq!(fixture.agent.selected(), None);
    assert_eq!(fixture.agent.handshake_route(), Some(route(1)));
    assert_eq!(fixture.event(at(1), route(1), check()), None);
    let event = fixture.event(at(2), route(1), check().nominating());
    assert_eq!(event, Some(IceEvent::Selected(route(1))));
    assert_eq!(fixture.event(at(3), route(1), check().nominating()), None);
    assert_eq!(fixture.agent.selected(), Some(route(1)));
}

#[test]
fn nomination_of_an_unknown_route_validates_and_selects_it() {
    let mut fixture = Fixture::new();
    let event = fixture.event(at(0), route(1), check().nominating());
    assert_eq!(event, Some(IceEvent::Selected(route(1))));
    assert!(fixture.agent.is_valid(route(1)));
}

#[test]
fn selection_follows_the_latest_nomination_and_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    // A port changed by a NAT: the same peer from elsewhere.
    assert_eq!(
        fixture.event(at(1), route(2), check().nominating()),
        Some(IceEvent::Selected(route(2)))
    );
    // Checks without nomination on the others do not move it, however silent the selected one is.
    for second in 2..30 {
        let event = fixture.event(at(second), route(1), check());
        assert_eq!(event, None);
        assert_eq!(fixture.agent.selected(), Some(route(2)));
    }
    assert_eq!(
        fixture.event(at(30), route(1), check().nominating()),
        Some(IceEvent::Selected(route(1)))
    );
}

#[test]
fn routes_differ_by_transport_and_by_our_address() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check());
    assert!(!fixture.agent.is_valid(Route { transport: Transport::Tcp(9), ..route(1) }));
    assert!(!fixture.agent.is_valid(Route { local: 1, ..route(1) }));
}

#[test]
fn wrong_names_and_wrong_integrity_are_dropped_without_a_trace() {
    let (us, them) = (ours().ufrag, theirs().ufrag);
    let mut fixture = Fixture::new();
    let mut wrong = Vec::new();
    for username in [
        format!("{them}:{us}"),
        format!("{us}:{them}:"),
        format!("{us}:{them}x"),
        format!("{us}x:{them}"),
        format!(":{them}"),
        format!("{us}:"),
        us.clone(),
        String::new(),
    ] {
        wrong.push(Check { username, ..check() });
    }
    wrong.push(Check { pwd: theirs().pwd, ..check() });
    wrong.push(Check { pwd: String::new(), ..check() });
    for wrong in wrong {
        let username = wrong.username.clone();
        let outcome = fixture.check(at(0), route(1), wrong.nominating());
        assert_eq!(outcome, Err(DropReason::BadStunIntegrity), "{username}");
    }
    assert_eq!(fixture.agent.routes().count(), 0);
    assert_eq!(fixture.agent.next_deadline(), None);
    assert!(fixture.agent.transactions.latest.is_empty());
}

/// A message with the attributes given, a FINGERPRINT at its end and no MESSAGE-INTEGRITY.
fn unsigned(message_type: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = message_type.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
    bytes.extend([3; 12]);
    for (attribute_type, value) in attributes {
        bytes.extend(attribute_type.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let len = (bytes.len() - 20 + 8) as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    let crc = crc32fast::hash(&bytes) ^ 0x5354_554e;
    bytes.extend([0x80, 0x28, 0, 4]);
    bytes.extend(crc.to_be_bytes());
    bytes
}

#[test]
fn check_without_integrity_is_dropped() {
    let mut fixture = Fixture::new();
    let username = check().username;
    let bytes = unsigned(0x0001, &[(0x0006, username.as_bytes()), (0x0025, &[])]);
    assert_eq!(fixture.take(at(0), route(1), &bytes), Err(DropReason::BadStunIntegrity));
    assert_eq!(fixture.agent.selected(), None);
}

#[test]
fn indications_responses_and_other_methods_are_not_answered() {
    let mut fixture = Fixture::new();
    // Binding indication, success, error; an Allocate request.
    for message_type in [0x0011, 0x0101, 0x0111, 0x0003] {
        let bytes = unsigned(message_type, &[]);
        assert_eq!(fixture.take(at(0), route(1), &bytes), Err(DropReason::UnusedStun));
    }
}

/// Adds an attribute before MESSAGE-INTEGRITY and signs again.
fn with_attribute(bytes: &[u8], attribute_type: u16, pwd: &str) -> Vec<u8> {
    use hmac::{Hmac, KeyInit, Mac};
    let mut bytes = bytes[..bytes.len() - 24 - 8].to_vec();
    bytes.extend(attribute_type.to_be_bytes());
    bytes.extend([0, 4, 1, 2, 3, 4]);
    let set_len = |bytes: &mut Vec<u8>, more: usize| {
        let len = (bytes.len() - 20 + more) as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
    };
    set_len(&mut bytes, 24);
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(pwd.as_bytes()).unwrap();
    mac.update(&bytes);
    bytes.extend([0, 8, 0, 20]);
    bytes.extend(mac.finalize().into_bytes());
    set_len(&mut bytes, 8);
    let crc = crc32fast::hash(&bytes) ^ 0x5354_554e;
    bytes.extend([0x80, 0x28, 0, 4]);
    bytes.extend(crc.to_be_bytes());
    bytes
}

#[test]
fn unknown_attribute_that_must_be_understood_is_named_in_420() {
    let mut fixture = Fixture::new();
    let bytes = check().nominating().bytes(&mut fixture);
    let bytes = with_attribute(&bytes, 0x7fff, &ours().pwd);
    let checked = fixture.take(at(0), route(1), &bytes).unwrap();
    assert_eq!(checked.event, None);
    let reply = Message::parse(&fixture.reply[..checked.reply_len]).unwrap();
    assert_eq!(reply.error_code(), Some(420));
    assert!(reply.verify_integrity(&IntegrityKey::new(ours().pwd.as_bytes())));
    assert!(fixture.reply[..checked.reply_len].windows(2).any(|pair| pair == [0x7f, 0xff]));
    assert!(!fixture.agent.is_valid(route(1)) && !fixture.agent.has_consent(at(0)));
}

#[test]
fn unknown_attribute_that_may_be_ignored_is_ignored() {
    let mut fixture = Fixture::new();
    let bytes = check().nominating().bytes(&mut fixture);
    // GOOG_NETWORK_INFO of libwebrtc.
    let bytes = with_attribute(&bytes, 0xc057, &ours().pwd);
    let checked = fixture.take(at(0), route(1), &bytes).unwrap();
    assert_eq!(checked.event, Some(IceEvent::Selected(route(1))));
}

#[test]
fn peer_that_thinks_it_is_controlled_gets_487() {
    let mut fixture = Fixture::new();
    let conflicting = Check { controlled: true, ..check().nominating() };
    let checked = fixture.check(at(0), route(1), conflicting).unwrap();
    assert_eq!(checked.event, None);
    let reply = Message::parse(&fixture.reply[..checked.reply_len]).unwrap();
    assert_eq!(reply.error_code(), Some(487));
    assert!(reply.verify_integrity(&IntegrityKey::new(ours().pwd.as_bytes())));
    assert!(!fixture.agent.is_valid(route(1)));
}

#[test]
fn retransmission_gets_the_same_answer_and_changes_nothing() {
    let mut fixture = Fixture::new();
    let bytes = check().nominating().bytes(&mut fixture);
    let first = fixture.take(at(0), route(1), &bytes).unwrap();
    let reply = fixture.reply[..first.reply_len].to_vec();
    fixture.event(at(1), route(2), check().nominating());
    let again = fixture.take(at(20), route(1), &bytes).unwrap();
    assert_eq!(fixture.reply[..again.reply_len], reply);
    assert_eq!(again.event, None);
    assert_eq!(fixture.agent.selected(), Some(route(2)));
    // Consent was not renewed by it.
    assert_eq!(fixture.expired(at(30)), [Expired::Route(route(1))]);
}

#[test]
fn captured_check_is_refused_from_another_address() {
    let mut fixture = Fixture::new();
    let bytes = check().nominating().with_id(77).bytes(&mut fixture);
    fixture.take(at(0), route(1), &bytes).unwrap();
    assert_eq!(fixture.take(at(1), route(2), &bytes), Err(DropReason::ReplayedCheck));
    assert_eq!(fixture.agent.selected(), Some(route(1)));
    assert!(!fixture.agent.is_valid(route(2)));
}

#[test]
fn transaction_ids_are_remembered_up_to_a_bound() {
    let mut fixture = Fixture::new();
    let captured = check().with_id(1_000_000).bytes(&mut fixture);
    fixture.take(at(0), route(1), &captured).unwrap();
    for _ in 1..TRANSACTIONS_MAX {
        fixture.event(at(1), route(1), check());
    }
    assert_eq!(fixture.take(at(1), route(2), &captured), Err(DropReason::ReplayedCheck));
    for _ in 0..TRANSACTIONS_MAX + OLD_TRANSACTIONS_MAX {
        fixture.event(at(1), route(1), check());
    }
    assert_eq!(fixture.agent.transactions.latest.len(), TRANSACTIONS_MAX);
    assert_eq!(fixture.agent.transactions.old.len(), OLD_TRANSACTIONS_MAX);
}

#[test]
fn routes_are_bounded_and_the_least_recent_unselected_makes_room() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    for port in 2..=8 {
        fixture.event(at(u64::from(port)), route(port), check());
    }
    fixture.event(at(10), route(2), check());
    let checked = fixture.check(at(11), route(9), check()).unwrap();
    assert_eq!(checked.evicted, Some(route(3)));
    assert_eq!(checked.event, Some(IceEvent::Validated(route(9))));
    assert_eq!(fixture.agent.routes().count(), ROUTES_MAX);
    assert_eq!(fixture.agent.selected(), Some(route(1)));
    assert!(!fixture.agent.is_valid(route(3)));
    let checked = fixture.check(at(12), route(10), check().nominating()).unwrap();
    assert_eq!(checked.evicted, Some(route(4)), "the selected one stays until the new one is");
}

#[test]
fn silent_routes_expire_one_by_one_and_consent_with_the_last() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    fixture.event(at(10), route(2), check());
    assert_eq!(fixture.agent.next_deadline(), Some(at(30)));
    assert!(fixture.expired(at(29)).is_empty());
    assert_eq!(fixture.expired(at(30)), [Expired::Route(route(1))]);
    assert_eq!(fixture.agent.selected(), None);
    assert!(fixture.agent.has_consent(at(39)) && !fixture.agent.has_consent(at(40)));
    assert_eq!(fixture.agent.next_deadline(), Some(at(40)));
    assert_eq!(fixture.expired(at(40)), [Expired::Route(route(2)), Expired::Consent]);
    assert_eq!(fixture.agent.next_deadline(), None);
    assert!(fixture.expired(at(1_000)).is_empty());
}

#[test]
fn checks_keep_consent_alive() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    for second in (25..1_000).step_by(25) {
        assert!(fixture.expired(at(second)).is_empty());
        assert!(fixture.agent.has_consent(at(second)));
        fixture.event(at(second), route(1), check());
    }
}

#[test]
fn lost_consent_comes_back_by_new_credentials_alone() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    fixture.expired(at(30));
    let late = fixture.check(at(40), route(1), check().nominating());
    assert_eq!(late, Err(DropReason::UnusedStun));
    assert!(!fixture.agent.is_valid(route(1)) && !fixture.agent.has_consent(at(40)));

    fixture.agent.restart(fresh());
    assert_eq!(fixture.agent.local_ufrags().collect::<Vec<_>>(), ["aaNewUfrag"]);
    let old = fixture.check(at(41), route(1), check().nominating());
    assert_eq!(old, Err(DropReason::UnusedStun));
    let event = fixture.event(at(42), route(1), check().under(&fresh(), "NewTheirs").nominating());
    assert_eq!(event, Some(IceEvent::Selected(route(1))));
    assert!(fixture.agent.has_consent(at(42)));
}

#[test]
fn check_that_overtakes_the_timer_does_not_bring_consent_back() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    let late = fixture.check(at(30), route(1), check().nominating());
    assert_eq!(late, Err(DropReason::UnusedStun));
    assert_eq!(fixture.expired(at(30)), [Expired::Route(route(1)), Expired::Consent]);
}

#[test]
fn restart_under_way_survives_the_loss_of_consent() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    fixture.agent.restart(fresh());
    assert_eq!(fixture.expired(at(30)), [Expired::Route(route(1)), Expired::Consent]);
    let event = fixture.event(at(31), route(2), check().under(&fresh(), "NewTheirs").nominating());
    assert_eq!(event, Some(IceEvent::Selected(route(2))));
}

#[test]
fn old_credentials_are_answered_until_the_new_ones_nominate() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    fixture.agent.restart(fresh());
    let ufrags =
        |fixture: &Fixture| fixture.agent.local_ufrags().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ufrags(&fixture), ["aaNewUfrag", "aaOurUfrag"]);
    assert_eq!(fixture.agent.selected(), Some(route(1)), "media goes on");
    assert_eq!(fixture.event(at(1), route(1), check()), None);
    // A check under the new ones that does not nominate leaves the old ones usable.
    let new = || check().under(&fresh(), "NewTheirs");
    assert_eq!(fixture.event(at(2), route(2), new()), Some(IceEvent::Validated(route(2))));
    assert_eq!(fixture.event(at(3), route(1), check()), None);
    // The first nomination is told even on the route that is selected already.
    let event = fixture.event(at(4), route(1), new().nominating());
    assert_eq!(event, Some(IceEvent::Selected(route(1))));
    assert_eq!(ufrags(&fixture), ["aaNewUfrag"]);
    let old = fixture.check(at(5), route(1), check());
    assert_eq!(old, Err(DropReason::BadStunIntegrity));
}

#[test]
fn replies_are_signed_with_the_credentials_of_the_check() {
    let mut fixture = Fixture::new();
    fixture.agent.restart(fresh());
    for (local, remote) in [(ours(), "TheirUfrag"), (fresh(), "NewTheirs")] {
        let checked = fixture.check(at(0), route(1), check().under(&local, remote)).unwrap();
        let reply = Message::parse(&fixture.reply[..checked.reply_len]).unwrap();
        assert!(reply.verify_integrity(&IntegrityKey::new(local.pwd.as_bytes())));
    }
    let crossed = Check { pwd: ours().pwd, ..check().under(&fresh(), "NewTheirs") };
    let crossed = fixture.check(at(0), route(1), crossed);
    assert_eq!(crossed, Err(DropReason::BadStunIntegrity));
}

#[test]
fn second_restart_keeps_the_credentials_in_use() {
    let mut fixture = Fixture::new();
    fixture.event(at(0), route(1), check().nominating());
    fixture.agent.restart(fresh());
    let newer = Credentials::new("aaNewerUfr", "YetAnotherPasswordForRestart").unwrap();
    fixture.agent.restart(newer.clone());
    let ufrags: Vec<_> = fixture.agent.local_ufrags().collect();
    assert_eq!(ufrags, ["aaNewerUfr", "aaOurUfrag"]);
    assert_eq!(fixture.event(at(1), route(1), check()), None);
    let event = fixture.event(at(2), route(1), check().under(&newer, "x").nominating());
    assert_eq!(event, Some(IceEvent::Selected(route(1))));
}

#[test]
fn any_peer_ufrag_is_taken_until_the_peers_is_known() {
    let mut fixture = Fixture::new();
    fixture.agent = IceLiteAgent::new(ours(), None, CONSENT);
    assert!(fixture.event(at(0), route(1), check().under(&ours(), "Anybody")).is_some());
    fixture.agent.set_remote(theirs());
    let stranger = fixture.check(at(1), route(1), check().under(&ours(), "Anybody"));
    assert_eq!(stranger, Err(DropReason::BadStunIntegrity));
    assert!(fixture.check(at(1), route(1), check()).is_ok());
}

#[test]
fn both_orders_of_a_restarts_halves_work() {
    for remote_first in [true, false] {
        let mut fixture = Fixture::new();
        fixture.event(at(0), route(1), check().nominating());
        let new_theirs = Credentials::new("NewTheirs", "TheirOtherPasswordOfMany").unwrap();
        if remote_first {
            fixture.agent.set_remote(new_theirs.clone());
            assert!(fixture.check(at(1), route(1), check()).is_ok());
            fixture.agent.restart(fresh());
        } else {
            fixture.agent.restart(fresh());
            assert!(fixture.check(at(1), route(1), check()).is_ok());
            fixture.agent.set_remote(new_theirs.clone());
        }
        assert!(fixture.check(at(2), route(1), check()).is_ok(), "old pair stays usable");
        let new = check().under(&fresh(), &new_theirs.ufrag).nominating();
        assert_eq!(fixture.event(at(3), route(1), new), Some(IceEvent::Selected(route(1))));
    }
}

#[test]
fn forgotten_route_is_not_valid_and_not_selected() {
    let mut fixture = Fixture::new();
    let tcp = Route { transport: Transport::Tcp(3), ..route(1) };
    fixture.event(at(0), route(2), check());
    fixture.event(at(0), tcp, check().nominating());
    fixture.agent.forget_route(tcp);
    assert!(!fixture.agent.is_valid(tcp));
    assert_eq!(fixture.agent.selected(), None);
    assert_eq!(fixture.agent.handshake_route(), Some(route(2)));
    assert!(fixture.agent.has_consent(at(1)));
}

#[test]
fn reply_buffer_that_is_too_small_loses_the_reply_alone() {
    let mut fixture = Fixture::new();
    let bytes = check().nominating().bytes(&mut fixture);
    let message = Message::parse(&bytes).unwrap();
    let checked = fixture.agent.handle_check(at(0), route(1), &message, &mut [0; 10]).unwrap();
    assert_eq!(checked.reply_len, 0);
    assert_eq!(checked.event, Some(IceEvent::Selected(route(1))));
}
