//! Which of the server's candidates a client uses.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_engine::clock::Instant;

use super::sdp::read::Candidate;

/// How long a candidate that fits better is waited for, once there is one that will do.
const SETTLE: Duration = Duration::from_millis(100);
/// The most candidates that are kept; what comes after them is passed over.
const CANDIDATES_MAX: usize = 64;

/// The server's candidates, best first.
pub struct Addresses {
    server: Option<IpAddr>,
    trickles: bool,
    usable: Vec<(Fit, Reverse<u32>, SocketAddr)>,
    passed_over: usize,
    settle_at: Option<Instant>,
    is_chosen: bool,
}

/// How well an address fits to that of the HTTP API, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fit {
    /// On the way that signalling goes, too.
    Same,
    Family,
    Other,
}

impl Addresses {
    /// No candidates. `server` is where the HTTP API is, if that is known.
    pub fn new(server: Option<IpAddr>, trickles: bool) -> Self {
        let (usable, passed_over) = (Vec::new(), 0);
        Self { server, trickles, usable, passed_over, settle_at: None, is_chosen: false }
    }

    /// Takes a candidate.
    pub fn add(&mut self, candidate: Candidate) {
        let Candidate { address, priority } = candidate;
        if self.usable.iter().any(|(.., known)| *known == address) {
            return;
        }
        match fit(self.server, address.ip()) {
            Some(fit) if self.usable.len() < CANDIDATES_MAX => {
                self.usable.push((fit, Reverse(priority), address));
            }
            _ => self.passed_over += 1,
        }
    }

    /// All usable addresses, once: as soon as the best is there, or nothing better came for a tenth of a second.
    ///
    /// # Errors
    /// None is usable and none can come.
    pub fn choose(&mut self, now: Instant) -> Result<Option<Vec<SocketAddr>>, String> {
        if self.is_chosen {
            return Ok(None);
        }
        self.usable.sort();
        let Some((fit, ..)) = self.usable.first() else {
            return match self.trickles {
                true => Ok(None),
                false => Err(format!(
                    "it names no UDP address that can be reached ({} candidates were passed over)",
                    self.passed_over
                )),
            };
        };
        let settled = self.settle_at.is_some_and(|at| at <= now);
        if self.trickles && *fit != Fit::Same && !settled {
            self.settle_at.get_or_insert(now + SETTLE);
            return Ok(None);
        }
        self.is_chosen = true;
        self.settle_at = None;
        Ok(Some(self.usable.iter().map(|(.., address)| *address).collect()))
    }

    /// When the wait for a better one ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.settle_at
    }
}

/// `None` for an address that cannot be reached from where the HTTP API was reached.
fn fit(server: Option<IpAddr>, address: IpAddr) -> Option<Fit> {
    let is_scoped = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if is_scoped || address.is_unspecified() || address.is_multicast() {
        return None;
    }
    // A name may be of this host or of another.
    let Some(server) = server else {
        return Some(if address.is_loopback() { Fit::Other } else { Fit::Same });
    };
    let same_family = server.is_ipv4() == address.is_ipv4();
    match (server.is_loopback(), address.is_loopback()) {
        _ if server == address => Some(Fit::Same),
        (true, true) if same_family => Some(Fit::Same),
        (true, true) => Some(Fit::Family),
        (true, false) => Some(Fit::Other),
        (false, true) => None,
        (false, false) if same_family => Some(Fit::Family),
        (false, false) => Some(Fit::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(address: &str, priority: u32) -> Candidate {
        Candidate { address: address.parse().unwrap(), priority }
    }

    fn addresses(server: &str, trickles: bool, candidates: &[&str]) -> Addresses {
        let mut addresses = Addresses::new(server.parse().ok(), trickles);
        for (address, priority) in candidates.iter().zip(1..) {
            addresses.add(candidate(address, priority));
        }
        addresses
    }

    fn chosen(server: &str, candidates: &[&str]) -> Vec<String> {
        let chosen = addresses(server, false, candidates).choose(Instant::default());
        chosen.unwrap().unwrap().iter().map(SocketAddr::to_string).collect()
    }

    const MIXED: [&str; 4] = ["127.0.0.1:1", "[2001:db8::1]:1", "10.0.0.1:1", "10.0.0.2:1"];

    #[test]
    fn a_candidate_on_the_way_of_signalling_comes_first() {
        assert_eq!(chosen("127.0.0.1", &MIXED)[0], "127.0.0.1:1");
        assert_eq!(chosen("10.0.0.1", &MIXED), ["10.0.0.1:1", "10.0.0.2:1", "[2001:db8::1]:1"]);
        assert_eq!(chosen("10.0.0.9", &MIXED)[0], "10.0.0.2:1", "the higher priority");
        assert_eq!(chosen("media.test", &MIXED)[3], "127.0.0.1:1");
    }

    #[test]
    fn loopback_of_another_host_is_not_ours() {
        let mut only = addresses("10.0.0.1", false, &["127.0.0.1:1", "[fe80::1]:1", "0.0.0.0:1"]);
        let error = only.choose(Instant::default()).unwrap_err();
        assert!(error.contains("3 candidates"), "{error}");
    }

    #[test]
    fn a_better_candidate_is_waited_for_while_they_trickle() {
        let now = Instant::from_start(Duration::from_secs(1));
        let mut some = addresses("127.0.0.1", true, &[]);
        assert_eq!(some.choose(now), Ok(None));
        some.add(candidate("10.0.0.1:1", 1));
        assert_eq!((some.choose(now), some.next_deadline()), (Ok(None), Some(now + SETTLE)));
        some.add(candidate("127.0.0.1:1", 1));
        assert_eq!(some.choose(now).unwrap().unwrap().len(), 2);
        assert_eq!((some.choose(now), some.next_deadline()), (Ok(None), None), "once");

        let mut other = addresses("127.0.0.1", true, &["10.0.0.1:1"]);
        assert_eq!(other.choose(now), Ok(None));
        assert_eq!(other.choose(now + SETTLE).unwrap().unwrap().len(), 1);
    }

    #[test]
    fn no_more_candidates_are_kept_than_can_be_of_use() {
        let mut many = Addresses::new(None, false);
        for port in 1..1_000 {
            many.add(candidate(&format!("10.0.0.1:{port}"), 1));
        }
        assert_eq!(many.choose(Instant::default()).unwrap().unwrap().len(), CANDIDATES_MAX);
    }
}
