//! Reading `--target`: which API, which server; and who may be aimed at.

use std::net::{IpAddr, Ipv4Addr};

use super::{Target, TargetApi};

/// What a WHIP target may say in its path: replaced by `whip` or `whep`.
const PROTOCOL: &str = "{protocol}";
/// Likewise, replaced by the call's id.
const CALL: &str = "{call}";

impl Target {
    /// Reads `rtcd=URL`, `sluice=URL` or `whip=URL`. The URL is `http://HOST:PORT`; port 80 may be left out.
    ///
    /// A path may only follow for WHIP. It may hold `{protocol}` (becomes `whip` or `whep`) and `{call}`; when it holds neither,
    /// `/{protocol}/{call}` is appended.
    /// # Errors
    /// What is wrong, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str =
            "a target is rtcd=URL, sluice=URL or whip=URL, such as rtcd=http://127.0.0.1:8045";
        let (api, url) = text.split_once('=').ok_or_else(|| format!("{text:?}: {FORMS}"))?;
        let api = match api {
            "rtcd" => TargetApi::Rtcd,
            "sluice" => TargetApi::Sluice,
            "whip" => TargetApi::Whip,
            _ => return Err(format!("{text:?}: {api:?} is no API that is known here; {FORMS}")),
        };
        let (authority, path) = split_url(url).map_err(|why| format!("{text:?}: {why}"))?;
        split_authority(authority).map_err(|why| format!("{text:?}: {why}"))?;
        let path = path.trim_end_matches('/');
        if api != TargetApi::Whip && !path.is_empty() {
            return Err(format!("{text:?}: only a whip target may have a path, {path:?} is one"));
        }
        if path.contains(PROTOCOL) && !path.contains(CALL) {
            return Err(format!("{text:?}: a path with {PROTOCOL} needs {CALL}, too"));
        }
        let is_template = path.contains(CALL) || api != TargetApi::Whip;
        let rest = if is_template { String::new() } else { format!("/{PROTOCOL}/{CALL}") };
        let url = format!("http://{authority}{path}{rest}");
        Ok(Self { api, url, token: None, account: None })
    }

    /// Host and port as in the URL: what the field `Host` says.
    pub fn authority(&self) -> &str {
        split_url(&self.url).map_or("", |(authority, _)| authority)
    }

    /// Name or address of the server, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        split_authority(self.authority()).map_or("", |(host, _)| host)
    }

    /// Port of the HTTP API.
    pub fn port(&self) -> u16 {
        split_authority(self.authority()).map_or(HTTP_PORT, |(_, port)| port)
    }

    /// The server's address, where the URL says it; `localhost` is 127.0.0.1.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host() {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => host.parse().ok(),
        }
    }

    /// The path of a call's WHIP or WHEP endpoint.
    pub fn endpoint(&self, protocol: &str, call: &str) -> String {
        let path = split_url(&self.url).map_or("", |(_, path)| path);
        path.replace(PROTOCOL, protocol).replace(CALL, call)
    }
}

/// Whether an address may be somebody else's: all but loopback, private, link-local and shared ones.
///
/// Source: RFC 1918, RFC 4193 (ULA), RFC 3927, RFC 4291 §2.5.6 (link-local), RFC 6598 (carriers' translators).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

const HTTP_PORT: u16 = 80;

/// Authority and path of a URL; the path has its leading `/` or is empty.
fn split_url(url: &str) -> Result<(&str, &str), String> {
    let Some(rest) = url.strip_prefix("http://") else {
        let scheme = url.split_once("://").map_or("nothing", |(scheme, _)| scheme);
        return Err(format!("a URL begins with http://, this one has {scheme}"));
    };
    if let Some(odd) = rest.chars().find(|c| !c.is_ascii_graphic() || "?#\\@".contains(*c)) {
        return Err(format!("{odd:?} may not stand in the URL of a target"));
    }
    Ok(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

/// Host and port of `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn split_authority(authority: &str) -> Result<(&str, u16), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("the IPv6 address has no closing bracket")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("{host:?} is no IPv6 address"));
        }
        (host, port)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        if port.matches(':').count() > 1 {
            return Err("an IPv6 address stands in brackets, as in http://[::1]:8045".to_owned());
        }
        if host.is_empty()
            || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        {
            return Err(format!("{host:?} is no name or address of a host"));
        }
        (host, port)
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => HTTP_PORT,
        digits => digits
            .and_then(|digits| digits.parse().ok())
            .filter(|&port| port != 0)
            .ok_or_else(|| format!("{port:?} is no port; 1 to 65535 are allowed"))?,
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    #[test]
    fn each_api_has_its_name() {
        let rtcd = target("rtcd=http://127.0.0.1:8045");
        assert_eq!((rtcd.api, rtcd.url.as_str()), (TargetApi::Rtcd, "http://127.0.0.1:8045"));
        assert_eq!((rtcd.host(), rtcd.port()), ("127.0.0.1", 8045));
        assert_eq!(target("sluice=http://media.test/").url, "http://media.test");
        assert_eq!(target("sluice=http://media.test").port(), 80);
        let six = target("rtcd=http://[::1]:8045");
        assert_eq!((six.host(), six.port(), six.authority()), ("::1", 8045, "[::1]:8045"));
        assert_eq!(six.address(), Some("::1".parse().unwrap()));
        assert_eq!(target("rtcd=http://localhost:1").address(), Some([127, 0, 0, 1].into()));
    }

    #[test]
    fn a_whip_path_is_a_template() {
        assert_eq!(target("whip=http://h:1").endpoint("whep", "c1"), "/whep/c1");
        assert_eq!(target("whip=http://h:1/base/").endpoint("whip", "c1"), "/base/whip/c1");
        let own = target("whip=http://h:1/live/{call}/{protocol}");
        assert_eq!(own.endpoint("whip", "c1"), "/live/c1/whip");
        assert_eq!(target("whip=http://h:1/in/{call}").endpoint("whip", "c1"), "/in/c1");
    }

    #[test]
    fn a_wrong_target_says_what_is_allowed() {
        for (text, wanted) in [
            ("http://127.0.0.1", "rtcd=URL"),
            ("127.0.0.1:8045", "rtcd=URL"),
            ("rtp=http://127.0.0.1", "is no API"),
            ("rtcd=https://127.0.0.1", "begins with http://"),
            ("rtcd=127.0.0.1:8045", "begins with http://"),
            ("rtcd=http://127.0.0.1:0", "1 to 65535"),
            ("rtcd=http://127.0.0.1:70000", "1 to 65535"),
            ("rtcd=http://127.0.0.1:", "1 to 65535"),
            ("rtcd=http://::1:8045", "brackets"),
            ("rtcd=http://[::1:8045", "closing bracket"),
            ("rtcd=http://[nine]:8045", "IPv6"),
            ("rtcd=http://:8045", "no name or address"),
            ("rtcd=http://me:pw@host", "'@'"),
            ("rtcd=http://h/path", "only a whip target"),
            ("whip=http://h/{protocol}", "needs {call}"),
            ("whip=http://h/a b", "' '"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn strangers_addresses_are_known() {
        for own in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
        for other in
            ["8.8.8.8", "172.32.0.1", "100.128.0.1", "0.0.0.0", "2001:db8::1", "::ffff:8.8.8.8"]
        {
            assert!(is_public(other.parse().unwrap()), "{other}");
        }
    }
}
