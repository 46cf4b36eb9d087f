//! `sluice-bench impair`: the relay by itself, for browsers and other programs that are no load clients.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sluice_engine::clock::now;

use super::{Relay, RelayCounters, WayCounters};
use crate::scenario::Impair;
use crate::stop;

/// A relay between clients and one server.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = BROWSERS)]
pub struct Arguments {
    /// Where clients send to. For `ice_host_port_override` a port of 80 to 49151
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The server's UDP address: its rtc.ice_address_udp and rtc.ice_port_udp
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// Lets --to be an address on the internet; without it loopback and private ones are allowed
    #[arg(long)]
    allow_public: bool,
    /// Share of datagrams lost, each by itself, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Share of the time that bursts of loss take, 0 to 0.9; all is lost within one
    #[arg(long, default_value_t = 0.0)]
    burst_loss: f64,
    /// Datagrams of a mean burst, 1 to 10000
    #[arg(long, default_value_t = 0.0)]
    burst_length: f64,
    /// Milliseconds each way, 0 to 10000
    #[arg(long, default_value_t = 0.0)]
    delay_ms: f64,
    /// Milliseconds more, uniformly chosen, 0 to 10000; order is kept
    #[arg(long, default_value_t = 0.0)]
    jitter_ms: f64,
    /// Share of datagrams that overtake, since they are sent without delay and jitter, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    reorder: f64,
    /// Share of datagrams sent twice, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    duplicate: f64,
    /// Bits a second of UDP payload for each client and way, 1000 or more; 0 is without limit. What would wait longer than 200 ms is dropped
    #[arg(long, default_value_t = 0)]
    rate_bps: u64,
    /// Seconds after which a client gets another port towards the server, again and again, 0.1 to 3600; 0 never
    #[arg(long, default_value_t = 0.0)]
    rebind_s: f64,
    /// Seeds all choices: the same clients in the same order lose the same datagrams
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const BROWSERS: &str = "\
All settings hold for both ways, each client and way by itself. Counters are printed every 5 seconds and at the end (Ctrl-C).

Browsers, and every client that learns the server's address from its SDP, come through the relay when the server announces the relay's address \
instead of its own:

  sluice serve --ice-address-udp 127.0.0.1 --ice-port-udp 8443 --ice-host-override 127.0.0.1 --set rtc.ice_host_port_override=9000
  sluice-bench impair --listen 127.0.0.1:9000 --to 127.0.0.1:8443 --loss 0.02 --delay-ms 40

The port that is announced holds for TCP too, where the relay does not listen: clients come by UDP or not at all.";

/// From one line of counters to the next.
const PROGRESS: Duration = Duration::from_secs(5);

/// From one look for Ctrl-C to the next.
const LOOK: Duration = Duration::from_millis(50);

/// Relays until Ctrl-C. Fails in the end when datagrams went missing through the relay itself.
///
/// # Errors
/// In words: settings or addresses that are not allowed, or that are taken.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if !arguments.allow_public && !is_private(arguments.to.ip()) {
        return Err(format!(
            "--to {} is neither a loopback nor a private address; --allow-public lets it be one",
            arguments.to
        ));
    }
    let relay = Relay::start(arguments.listen, arguments.to, &arguments.impair())?;
    stop::listen();
    eprintln!("relaying from {} to {}; Ctrl-C ends it", relay.address(), arguments.to);
    let start = now();
    let mut next = start + PROGRESS;
    let mut is_told = false;
    while !stop::is_stopped() {
        std::thread::park_timeout(LOOK);
        if !is_told && let Some(trouble) = relay.trouble() {
            eprintln!("sluice-bench: {trouble}");
            is_told = true;
        }
        if now() >= next {
            next = next + PROGRESS;
            println!("{}", line(now().since(start), &relay.counters()));
        }
    }
    let counters = relay.counters();
    println!("{}", line(now().since(start), &counters));
    let faults = counters.up.own_faults() + counters.down.own_faults() + counters.refused;
    if faults > 0 {
        eprintln!(
            "sluice-bench: {faults} datagrams went missing through the relay itself, not the network that it plays"
        );
    }
    let is_faultless = faults == 0 && relay.trouble().is_none();
    Ok(if is_faultless { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn impair(&self) -> Impair {
        Impair {
            seed: self.seed,
            loss: self.loss,
            burst_loss: self.burst_loss,
            burst_length: self.burst_length,
            delay_ms: self.delay_ms,
            jitter_ms: self.jitter_ms,
            reorder: self.reorder,
            duplicate: self.duplicate,
            rate_bps: self.rate_bps,
            rebind_s: self.rebind_s,
        }
    }
}

/// Whether packets to this address stay on the machine or in a private network.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// One line about everything since the start. What did not happen is left out, but for clients and what was received and forwarded.
fn line(since_start: Duration, counters: &RelayCounters) -> String {
    let RelayCounters { up, down, clients, rebinds, refused, late_max } = counters;
    let mut text = format!("{:.0} s: clients {clients}", since_start.as_secs_f64());
    if *rebinds > 0 {
        let _ = write!(text, ", rebinds {rebinds}");
    }
    if *refused > 0 {
        let _ = write!(text, ", refused {refused}");
    }
    if !late_max.is_zero() {
        let _ = write!(text, ", sent late by at most {:.1} ms", late_max.as_secs_f64() * 1e3);
    }
    for (name, way) in [("to the server", up), ("to the clients", down)] {
        let _ = write!(text, "; {name}: {}", way_text(way));
    }
    text
}

fn way_text(way: &WayCounters) -> String {
    let mut text = format!("received {}, forwarded {}", way.received, way.forwarded);
    for (name, count) in [
        ("lost", way.lost),
        ("lost in bursts", way.burst_lost),
        ("dropped by rate", way.queue_full),
        ("sent twice", way.duplicated),
        ("sent early", way.reordered),
        ("waiting", way.waiting),
        ("too many waiting", way.overflowed),
        ("not sent", way.unsent),
        ("not read in time", way.kernel_dropped),
    ] {
        if count > 0 {
            let _ = write!(text, ", {name} {count}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(to: &str, others: &[&str]) -> Arguments {
        let line = ["impair", "--listen", "127.0.0.1:0", "--to", to];
        Line::try_parse_from(line.iter().chain(others)).unwrap_or_else(|e| panic!("{e}")).arguments
    }

    #[test]
    fn servers_on_the_internet_are_refused_unless_allowed() {
        for address in ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.9.9", "::1", "fd00::1"] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in ["192.0.2.1", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "0.0.0.0"] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
        let refusal = run(&arguments("192.0.2.1:8443", &[])).unwrap_err();
        assert!(refusal.contains("--allow-public"), "{refusal}");
    }

    #[test]
    fn bad_settings_are_refused_by_name_before_anything_starts() {
        let refusal = run(&arguments("127.0.0.1:8443", &["--loss", "1.5"])).unwrap_err();
        assert_eq!(refusal, "loss is 1.5; 0 to 1 is allowed");
    }

    #[test]
    fn a_line_names_what_happened_and_nothing_else() {
        let counters = RelayCounters {
            up: WayCounters { received: 10, forwarded: 9, lost: 1, ..Default::default() },
            clients: 2,
            ..Default::default()
        };
        assert_eq!(
            line(Duration::from_secs(5), &counters),
            "5 s: clients 2; to the server: received 10, forwarded 9, lost 1; to the clients: received 0, forwarded 0"
        );
    }
}
