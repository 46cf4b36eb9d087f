//! What another host needs for connectivity checks with one session, in one line of text.
//!
//! It opens nothing else: the credentials are those of ICE for a session that sends and receives no media, and they end with it.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sluice_engine::ice::Credentials;

use super::address::{Reach, is_of_one_host};
use super::check::{Target, Transport};

/// The form of tickets; another one is refused.
const VERSION: u32 = 1;

/// The longest ticket that is read: [`TARGETS_MAX`] candidates with credentials of the greatest length are well below it.
const TICKET_BYTES_MAX: usize = 4096;

/// Candidates that one ticket may name: it bounds what a ticket of somebody else makes us send.
pub(super) const TARGETS_MAX: usize = 32;

/// A ticket, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    /// The session's ICE credentials.
    pub(super) server: Credentials,
    /// Until when the session is kept, seconds of Unix time.
    pub(super) expires_unix_s: u64,
    /// The server's candidates.
    pub(super) targets: Vec<Target>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    v: u32,
    ufrag: String,
    pwd: String,
    exp: u64,
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
}

impl Ticket {
    /// The line of text: base64url of JSON.
    pub(super) fn to_text(&self) -> String {
        let of = |transport| {
            let targets = self.targets.iter().filter(move |target| target.transport == transport);
            targets.map(|target| target.address).collect()
        };
        let text = Text {
            v: VERSION,
            ufrag: self.server.ufrag.clone(),
            pwd: self.server.pwd.clone(),
            exp: self.expires_unix_s,
            udp: of(Transport::Udp),
            tcp: of(Transport::Tcp),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&text).unwrap_or_default())
    }

    /// Reads what [`Ticket::to_text`] made; blanks around it do not matter.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let broken = || {
            "this is no whole ticket: copy the line that `sluice doctor --ticket` printed, from its \
             first character to its last"
                .to_owned()
        };
        if text.is_empty() || text.len() > TICKET_BYTES_MAX {
            return Err(broken());
        }
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| broken())?;
        let version: serde_json::Value = serde_json::from_slice(&json).map_err(|_| broken())?;
        match version.get("v").and_then(serde_json::Value::as_u64) {
            Some(v) if v == u64::from(VERSION) => {}
            Some(v) => {
                return Err(format!(
                    "the ticket has form {v}, and this sluice knows form {VERSION}: use the same \
                     version on both hosts"
                ));
            }
            None => return Err(broken()),
        }
        let read: Text = serde_json::from_slice(&json).map_err(|_| broken())?;
        let server = Credentials::new(&read.ufrag, &read.pwd).ok_or_else(broken)?;
        let with = |transport, list: Vec<SocketAddr>| {
            list.into_iter().map(move |address| Target { transport, address })
        };
        let mut targets: Vec<Target> = Vec::new();
        for target in with(Transport::Udp, read.udp).chain(with(Transport::Tcp, read.tcp)) {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        // Who makes a ticket makes us send: not to programs of this host, and not to many.
        let is_sendable = |t: &Target| {
            let ip = t.address.ip();
            is_of_one_host(ip) && Reach::of(ip) != Reach::Loopback && t.address.port() != 0
        };
        if targets.is_empty() || targets.len() > TARGETS_MAX || !targets.iter().all(is_sendable) {
            return Err(broken());
        }
        Ok(Self { server, expires_unix_s: read.exp, targets })
    }

    /// Refuses a ticket whose time is over at `now_unix_s`.
    ///
    /// # Errors
    /// By how much, and what to do.
    pub(super) fn check_time(&self, now_unix_s: u64) -> Result<(), String> {
        match now_unix_s.saturating_sub(self.expires_unix_s) {
            0 => Ok(()),
            over => Err(format!(
                "the ticket's time has been over for {over} s by this host's clock: make another with \
                 `sluice doctor --ticket` (--wait gives it more time), and see that both clocks are right"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let target = |transport, address: &str| Target {
            transport,
            address: address.parse().expect("an address"),
        };
        Ticket {
            server: Credentials::new("aaServer", "aPasswordOf24IceChars/+x").expect("ice-chars"),
            expires_unix_s: 1_800_000_000,
            targets: vec![
                target(Transport::Udp, "192.0.2.7:8443"),
                target(Transport::Udp, "[2001:db8::7]:8443"),
                target(Transport::Tcp, "192.0.2.7:8443"),
            ],
        }
    }

    #[test]
    fn a_ticket_is_one_word_and_is_read_as_it_was_written() {
        let text = ticket().to_text();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(Ticket::parse(&text), Ok(ticket()));
        assert_eq!(Ticket::parse(&format!("  {text}\n")), Ok(ticket()));
    }

    #[test]
    fn the_largest_ticket_is_read() {
        let target = |n: usize| Target {
            transport: Transport::Tcp,
            address: format!("[2001:db8:1111:2222:3333:4444:5555:6666]:{}", 65_535 - n)
                .parse()
                .expect("an address"),
        };
        let largest = Ticket {
            server: Credentials::new("aaServer99", &"p".repeat(24)).expect("ice-chars"),
            expires_unix_s: u64::MAX,
            targets: (0..TARGETS_MAX).map(target).collect(),
        };
        assert_eq!(Ticket::parse(&largest.to_text()), Ok(largest));
    }

    #[test]
    fn cut_or_foreign_text_is_refused_in_a_sentence() {
        let text = ticket().to_text();
        for cut in 0..text.len() {
            let refused = Ticket::parse(&text[..cut]).expect_err("it is cut");
            assert!(refused.contains("--ticket"), "{refused}");
        }
        for bad in ["ticket", "e30", "?", &"A".repeat(TICKET_BYTES_MAX + 1)] {
            assert!(Ticket::parse(bad).is_err(), "{bad}");
        }
    }

    /// The ticket with one field changed.
    fn changed(field: &str, value: serde_json::Value) -> String {
        let json = URL_SAFE_NO_PAD.decode(ticket().to_text()).expect("base64url");
        let mut json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        json[field] = value;
        URL_SAFE_NO_PAD.encode(json.to_string())
    }

    #[test]
    fn values_out_of_their_bounds_are_refused() {
        let many: Vec<String> = (0..=TARGETS_MAX).map(|n| format!("192.0.2.7:{}", n + 1)).collect();
        for (field, value) in [
            ("ufrag", "a:b".into()),
            ("pwd", "short".into()),
            ("udp", many.into()),
            ("udp", vec!["0.0.0.0:1"].into()),
            ("udp", vec!["127.0.0.1:1"].into()),
            ("udp", vec!["[::ffff:127.0.0.1]:1"].into()),
            ("udp", vec!["239.1.2.3:1"].into()),
            ("udp", vec!["255.255.255.255:1"].into()),
            ("udp", vec!["[ff02::1]:1"].into()),
            ("tcp", vec!["192.0.2.7:0"].into()),
            ("exp", (-1).into()),
        ] {
            assert!(Ticket::parse(&changed(field, value)).is_err(), "{field}");
        }
        let refused = Ticket::parse(&changed("v", 2.into())).expect_err("another form");
        assert!(refused.contains("same version"), "{refused}");
    }

    #[test]
    fn an_address_that_is_named_twice_is_checked_once() {
        let text = changed("udp", vec!["192.0.2.7:1", "192.0.2.7:1"].into());
        let ticket = Ticket::parse(&text).expect("it is whole");
        assert_eq!(ticket.targets.len(), 2, "once over UDP, once over TCP");
    }

    #[test]
    fn a_ticket_ends_at_its_second() {
        assert_eq!(ticket().check_time(1_800_000_000), Ok(()));
        let refused = ticket().check_time(1_800_000_007).expect_err("it is over");
        assert!(refused.contains("7 s") && refused.contains("--wait"), "{refused}");
    }
}
