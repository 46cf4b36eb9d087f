//! The host name of `rtc.ice_host_override`: resolved at start, and again while the server runs.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::advertised::Advertised;
use super::mapping::External;

/// Time for an answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two looks at a name.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// Asks the system's resolver for all addresses of `name`.
///
/// # Errors
/// What the resolver says, or that it did not answer within 5 seconds.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let answers: io::Result<Vec<IpAddr>> =
        match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name, 0))).await {
            Ok(answers) => answers.map(|all| all.map(|address| address.ip()).collect()),
            Err(_) => return Err("the resolver did not answer within 5 seconds".to_owned()),
        };
    answers.map_err(|error| error.to_string())
}

/// Of all `answers` one of each family, IPv6 only with `ipv6`: those that are in use (`current`) as
/// long as they are among them, since resolvers shuffle, else the first.
///
/// # Errors
/// When there is none.
pub(super) fn choose(
    answers: &[IpAddr],
    current: &[IpAddr],
    ipv6: bool,
) -> Result<Vec<IpAddr>, String> {
    let mut chosen = Vec::new();
    let families: &[bool] = if ipv6 { &[true, false] } else { &[true] };
    for is_ipv4 in families {
        let family = || answers.iter().filter(|ip| ip.is_ipv4() == *is_ipv4);
        chosen.extend(family().find(|ip| current.contains(ip)).or_else(|| family().next()));
    }
    match (chosen.is_empty(), ipv6) {
        (false, _) => Ok(chosen),
        (true, true) => Err("it has no address".to_owned()),
        (true, false) => Err("it has no IPv4 address, and rtc.enable_ipv6 is off".to_owned()),
    }
}

/// Resolves `name` every 30 seconds and tells `advertised` of a change; without an answer the last
/// good one stays. `current` is what it resolved to before. Does not end.
pub async fn keep_resolved(
    advertised: &Advertised,
    name: &str,
    ipv6: bool,
    mut current: Vec<IpAddr>,
    mut resolve: impl AsyncFnMut(&str) -> Result<Vec<IpAddr>, String>,
) {
    let mut failing = false;
    loop {
        tokio::time::sleep(RESOLVE_INTERVAL).await;
        let answers = resolve(name).await;
        match answers.and_then(|answers| choose(&answers, &current, ipv6)) {
            Ok(chosen) => {
                failing = false;
                if chosen != current {
                    tracing::info!(
                        name,
                        ?chosen,
                        "rtc.ice_host_override resolves to another address"
                    );
                    advertised.learn(&External::Override(chosen.clone()));
                    current = chosen;
                }
            }
            Err(error) => {
                // Said once, not every 30 seconds.
                if !failing {
                    tracing::warn!(
                        "rtc.ice_host_override: the host name {name} does not resolve ({error}); \
                         its last address stays in use"
                    );
                }
                failing = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn the_address_in_use_stays_while_it_is_among_the_answers() {
        let answers = ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(choose(&answers, &[], false), Ok(ips(&["192.0.2.1"])));
        assert_eq!(choose(&answers, &ips(&["192.0.2.2"]), false), Ok(ips(&["192.0.2.2"])));
        assert_eq!(choose(&answers, &ips(&["192.0.2.9"]), false), Ok(ips(&["192.0.2.1"])));
        assert_eq!(choose(&answers, &[], true), Ok(ips(&["192.0.2.1", "2001:db8::1"])));
        assert!(choose(&answers[..1], &[], false).is_err());
        assert!(choose(&[], &[], true).is_err());
    }

    #[tokio::test]
    async fn the_system_resolves_localhost_and_refuses_what_is_no_name() {
        let answers = resolve("localhost").await.expect("every host knows it");
        assert!(!answers.is_empty() && answers.iter().all(IpAddr::is_loopback));
        resolve("a..b").await.expect_err("an empty label");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_advertised_and_a_failure_keeps_the_last_good_address() {
        let config = Settings::defaults().finish().expect("valid settings").media;
        let local = ["10.1.1.1:8443".parse().expect("an address")];
        let advertised = Advertised::new(&config, &local, &[]);
        let shown = || advertised.candidates(false)[0].address.ip().to_string();
        let mut script =
            [Ok(ips(&["1.1.1.1"])), Err("no".to_owned()), Ok(ips(&["2.2.2.2"]))].into_iter().fuse();
        let mut seen = Vec::new();
        let resolve = async |_: &str| {
            seen.push(shown());
            match script.next() {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        let task = keep_resolved(&advertised, "calls.example.org", false, vec![], resolve);
        let minutes = Duration::from_secs(300);
        assert!(tokio::time::timeout(minutes, task).await.is_err(), "it does not end");
        assert_eq!(seen, ["10.1.1.1", "1.1.1.1", "1.1.1.1", "2.2.2.2"]);
    }
}
