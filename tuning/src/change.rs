//! One thing that can be done about a finding.

use serde::{Deserialize, Serialize};

/// A place on the host that holds a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Target {
    /// A setting below /proc/sys, by its dotted name (`net.core.rmem_max`). Lasts until a reboot, or in a sysctl.d file.
    Sysctl {
        /// Dotted name; a dot within an interface's name is written as a slash, as sysctl(8) does.
        name: String,
    },
    /// A file below /sys or /proc/irq that takes one value.
    File {
        /// Path on the host, from `/`.
        path: String,
    },
    /// A parameter of a network card, by `ethtool`.
    Nic {
        /// Interface.
        interface: String,
        /// Which one.
        parameter: NicParameter,
    },
    /// A limit of the service's process. Only systemd sets it, at the next start of the service.
    Limit {
        /// As in systemd.exec(5): `LimitNOFILE`, `LimitMEMLOCK`.
        directive: String,
    },
}

/// What `ethtool` reads and sets here. Values are decimal numbers, or `on` and `off`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NicParameter {
    /// `-G … rx N`: descriptors of the receive ring.
    RxRing,
    /// `-G … tx N`.
    TxRing,
    /// `-L … combined N`: pairs of queues.
    CombinedChannels,
    /// `-C … adaptive-rx on|off`.
    AdaptiveRx,
    /// `-C … rx-usecs N`.
    RxUsecs,
    /// `-K … NAME on|off`, by the long name of `ethtool -k`.
    Feature(String),
}

/// A target and the value it should have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Where.
    pub target: Target,
    /// What was read there; `None` when it could not be read.
    pub from: Option<String>,
    /// What should be there.
    pub to: String,
}

impl Change {
    /// The command that does the same, for people.
    pub fn command(&self) -> String {
        self.target.command(&self.to)
    }
}

impl Target {
    /// The shell command that writes `value` here.
    pub fn command(&self, value: &str) -> String {
        match self {
            Self::Sysctl { name } if value.contains(' ') => {
                format!("sysctl -w {}=\"{value}\"", quoted(name))
            }
            Self::Sysctl { name } => format!("sysctl -w {}={value}", quoted(name)),
            Self::File { path } => format!("echo {value} > {}", quoted(path)),
            Self::Nic { interface, parameter } => {
                let interface = quoted(interface);
                match parameter {
                    NicParameter::RxRing => format!("ethtool -G {interface} rx {value}"),
                    NicParameter::TxRing => format!("ethtool -G {interface} tx {value}"),
                    NicParameter::CombinedChannels => {
                        format!("ethtool -L {interface} combined {value}")
                    }
                    NicParameter::AdaptiveRx => {
                        format!("ethtool -C {interface} adaptive-rx {value}")
                    }
                    NicParameter::RxUsecs => format!("ethtool -C {interface} rx-usecs {value}"),
                    NicParameter::Feature(name) => format!("ethtool -K {interface} {name} {value}"),
                }
            }
            Self::Limit { directive } => {
                format!("systemctl edit sluice   # [Service] {directive}={value}")
            }
        }
    }
}

/// A word as a shell takes it: the name of an interface may hold nearly anything.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:/@-".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_shell_would_take_apart_are_quoted() {
        let ring = |interface: &str| {
            let interface = interface.to_owned();
            Target::Nic { interface, parameter: NicParameter::RxRing }.command("64")
        };
        assert_eq!(ring("eth0.5"), "ethtool -G eth0.5 rx 64");
        assert_eq!(ring("a;reboot"), "ethtool -G 'a;reboot' rx 64");
        assert_eq!(ring("a'b"), r"ethtool -G 'a'\''b' rx 64");
    }
}
