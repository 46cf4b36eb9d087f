//! How often somebody may make us hash: token buckets for each source and for each client id.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use super::bounded::Bounded;

/// Sources and clients that are remembered; of more, those that were quiet longest are forgotten.
const BUCKETS_MAX: usize = 4096;

/// Who a request is counted against: an IPv4 address, or the /64 of an IPv6 address, which one
/// customer has to himself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(peer: IpAddr) -> Self {
        match peer.to_canonical() {
            IpAddr::V6(ip) => {
                let network = ip.to_bits() & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            ip => Self(ip),
        }
    }
}

/// What a bucket holds and how fast it fills.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rate {
    /// Tokens in a full bucket.
    pub(super) burst: f64,
    /// Tokens that come back in a second.
    pub(super) per_second: f64,
}

/// One source: a flooder keeps one core busy for less than a tenth of the time, and a cluster of
/// Mattermost servers behind one address still gets in at once.
const PER_SOURCE: Rate = Rate { burst: 32.0, per_second: 4.0 };

/// One client id, from all sources together.
const PER_CLIENT: Rate = Rate { burst: 32.0, per_second: 4.0 };

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

#[derive(Debug)]
struct Buckets<K> {
    rate: Rate,
    all: Bounded<K, Bucket>,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    fn new(rate: Rate, buckets_max: usize) -> Self {
        Self { rate, all: Bounded::new(buckets_max) }
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        (bucket.tokens + since * self.rate.per_second).min(self.rate.burst)
    }

    fn tokens(&self, key: &K, now: Instant) -> f64 {
        self.all.get(key).map_or(self.rate.burst, |bucket| self.filled(bucket, now))
    }

    /// Takes a token, or says when there will be one.
    fn take(&mut self, key: &K, now: Instant) -> Result<(), Duration> {
        let tokens = self.tokens(key, now);
        let rate = self.rate;
        let bucket = self.all.entry(key, now, || Bucket { tokens: rate.burst, filled: now });
        if tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - tokens) / rate.per_second));
        }
        *bucket = Bucket { tokens: tokens - 1.0, filled: now };
        Ok(())
    }

    fn give_back(&mut self, key: &K) {
        let burst = self.rate.burst;
        if let Some(bucket) = self.all.get_mut(key) {
            bucket.tokens = (bucket.tokens + 1.0).min(burst);
        }
    }
}

/// Whose bucket is empty, and when it holds a token again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limited {
    /// The source's.
    Source(Duration),
    /// The client's, and the source has been wrong lately, too.
    Client(Duration),
}

/// The buckets. A token is taken before a key is looked at and given back when it was right, so
/// only wrong keys count.
#[derive(Debug)]
pub(super) struct Limiter {
    sources: Buckets<Source>,
    clients: Buckets<String>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(PER_SOURCE, PER_CLIENT, BUCKETS_MAX)
    }
}

impl Limiter {
    fn new(per_source: Rate, per_client: Rate, buckets_max: usize) -> Self {
        Self {
            sources: Buckets::new(per_source, buckets_max),
            clients: Buckets::new(per_client, buckets_max),
        }
    }

    /// Whether the source has a token.
    pub(super) fn may_try(&self, source: Source, now: Instant) -> bool {
        self.sources.tokens(&source, now) >= 1.0
    }

    /// Takes a token of the source alone.
    pub(super) fn take_source(&mut self, source: Source, now: Instant) -> Result<(), Limited> {
        self.sources.take(&source, now).map_err(Limited::Source)
    }

    /// Takes a token of the source and one of the client.
    ///
    /// A client's empty bucket does not keep out a source that has at least half of its own left:
    /// somebody else emptied it, and must not lock the client out.
    pub(super) fn take(
        &mut self,
        source: Source,
        client: &str,
        now: Instant,
    ) -> Result<(), Limited> {
        let is_clean = self.sources.tokens(&source, now) * 2.0 >= self.sources.rate.burst;
        self.take_source(source, now)?;
        match self.clients.take(&client.to_owned(), now) {
            Err(wait) if !is_clean => {
                self.sources.give_back(&source);
                Err(Limited::Client(wait))
            }
            _ => Ok(()),
        }
    }

    /// Undoes [`Limiter::take`]: the key was right, or was never looked at.
    pub(super) fn give_back(&mut self, source: Source, client: &str) {
        self.sources.give_back(&source);
        self.clients.give_back(&client.to_owned());
    }

    /// Buckets that were forgotten to make room for others.
    pub(super) fn evicted(&self) -> u64 {
        self.sources.all.evicted() + self.clients.all.evicted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    fn limiter(source_burst: f64, client_burst: f64) -> Limiter {
        let rate = |burst| Rate { burst, per_second: 0.5 };
        Limiter::new(rate(source_burst), rate(client_burst), 8)
    }

    #[tokio::test]
    async fn a_bucket_gives_its_burst_then_its_rate() {
        let mut limiter = limiter(2.0, 100.0);
        let now = Instant::now();
        assert_eq!(limiter.take(source(1), "a", now), Ok(()));
        assert_eq!(limiter.take(source(1), "b", now), Ok(()));
        assert!(!limiter.may_try(source(1), now));
        let wait = Duration::from_secs(2);
        assert_eq!(limiter.take(source(1), "c", now), Err(Limited::Source(wait)));
        assert_eq!(limiter.take(source(2), "c", now), Ok(()), "others are not concerned");
        assert_eq!(limiter.take(source(1), "c", now + wait), Ok(()));
        assert!(limiter.take(source(1), "c", now + wait).is_err());
        let later = now + Duration::from_secs(3600);
        assert_eq!(limiter.sources.tokens(&source(1), later), 2.0, "no more than a burst");
    }

    #[tokio::test]
    async fn who_is_right_pays_nothing() {
        let mut limiter = limiter(1.0, 1.0);
        let now = Instant::now();
        for _ in 0..100 {
            assert_eq!(limiter.take(source(1), "a", now), Ok(()));
            limiter.give_back(source(1), "a");
        }
    }

    #[tokio::test]
    async fn a_client_that_others_guess_at_still_gets_in() {
        let mut limiter = limiter(4.0, 3.0);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(source(1), "a", now), Ok(()));
        }
        assert!(matches!(limiter.take(source(1), "a", now), Err(Limited::Client(_))));
        assert_eq!(limiter.take(source(1), "b", now), Ok(()), "the source's token was kept");
        assert_eq!(limiter.take(source(2), "a", now), Ok(()));
    }

    #[tokio::test]
    async fn the_tables_are_bounded() {
        let mut limiter = limiter(1.0, 1.0);
        let now = Instant::now();
        for i in 0..100_u8 {
            assert_eq!(limiter.take(source(i), &i.to_string(), now), Ok(()));
        }
        assert_eq!(limiter.evicted(), 2 * (100 - 8));
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_network_of_ipv6() {
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
