//! Which addresses media arrives on, and which of them a client is told.

mod advertised;
mod discovery;
mod listen;
mod mapping;
mod resolution;

use std::net::{IpAddr, SocketAddr};

pub use advertised::Advertised;
use discovery::{StunServer, Timing, discover};
pub use listen::{ListenAddresses, listen_addresses, local_addresses};
pub use mapping::External;
use resolution::choose;
pub use resolution::{keep_resolved, resolve};

use crate::config::{Config, HostOverride};

/// What is known of this host's external addresses before anything listens: the override, its name
/// resolved, or else what a STUN server says of each address.
///
/// `udp` and `tcp` are the addresses to listen on; their UDP port must be free still. Takes up to 5
/// seconds where somebody is to be asked.
///
/// # Errors
/// A host name that does not resolve.
pub async fn find_external(
    config: &Config,
    udp: &[SocketAddr],
    tcp: &[SocketAddr],
) -> Result<External, String> {
    let external = match &config.media.host_override {
        HostOverride::Address(ip) => External::Override(vec![*ip]),
        HostOverride::Pairs(pairs) => External::Pairs(pairs.clone()),
        HostOverride::Name(name) => {
            let answers = resolve(name).await;
            let chosen = answers.and_then(|answers| choose(&answers, &[], config.media.ipv6));
            External::Override(chosen.map_err(|error| {
                format!("rtc.ice_host_override: the host name {name} does not resolve: {error}")
            })?)
        }
        HostOverride::None => match StunServer::first_of(&config.ice_servers) {
            Some(server) => {
                let locals = local_ips(udp, tcp);
                let port = config.media.udp_port;
                let sockets: Vec<_> =
                    locals.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                External::Discovered(discover(&sockets, &server, Timing::default()).await)
            }
            None => External::None,
        },
    };
    warn_of_unused(&external, &local_ips(udp, tcp));
    Ok(external)
}

/// The addresses that are listened on, each once.
fn local_ips(udp: &[SocketAddr], tcp: &[SocketAddr]) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for address in udp.iter().chain(tcp) {
        if !ips.contains(&address.ip()) {
            ips.push(address.ip());
        }
    }
    ips
}

fn warn_of_unused(external: &External, locals: &[IpAddr]) {
    match external {
        External::Override(ips) => {
            for ip in ips {
                if !locals.iter().any(|local| local.is_ipv4() == ip.is_ipv4()) {
                    tracing::warn!(
                        "rtc.ice_host_override: {ip} is not advertised, since nothing listens on \
                         an address of its family"
                    );
                }
            }
        }
        External::Pairs(pairs) => {
            for pair in pairs {
                if !locals.contains(&pair.internal) {
                    let (internal, external) = (pair.internal, pair.external);
                    tracing::warn!(
                        "rtc.ice_host_override: {external} is not advertised, since nothing \
                         listens on {internal}"
                    );
                }
            }
        }
        External::None | External::Discovered(_) => {}
    }
}
