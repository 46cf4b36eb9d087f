//! Reads, writes and compares the values of targets.

use std::fmt;
use std::io::{self, ErrorKind};

use crate::change::{NicParameter, Target};
use crate::cpu_set::CpuSet;
use crate::host::Host;

impl Target {
    /// What is there, white space made single spaces.
    ///
    /// # Errors
    /// The kernel's or those of `ethtool`; `NotFound` where there is no such file, interface or parameter; `InvalidInput` for what is no
    /// place of the kernel's; `Unsupported` for a limit, which systemd holds and not a file.
    pub fn read(&self, host: &Host) -> io::Result<String> {
        let text = match self {
            Self::Sysctl { .. } | Self::File { .. } => host.read(self.path()?)?,
            Self::Nic { interface, parameter } => {
                let said = ethtool(host, interface, &[parameter.asks(), interface])?;
                parameter.find(&said).ok_or_else(|| {
                    io::Error::new(ErrorKind::NotFound, "the card does not have this")
                })?
            }
            Self::Limit { .. } => return Err(ErrorKind::Unsupported.into()),
        };
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Asks the kernel for `value`. Only reading tells whether it took it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn write(&self, host: &Host, value: &str) -> io::Result<()> {
        match self {
            Self::Sysctl { .. } | Self::File { .. } => host.write(self.path()?, value),
            Self::Nic { interface, parameter } => {
                let (option, name) = parameter.sets();
                self.check_interface()?;
                host.ethtool_set(&[option, interface, name, value])
                    .map_err(|error| of_interface(host, interface, error))
            }
            Self::Limit { .. } => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// Whether two texts are the same value here: CPUs by their numbers, however written.
    pub fn same(&self, one: &str, other: &str) -> bool {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let name = match self {
            Self::File { path } => path.rsplit('/').next().unwrap_or_default(),
            _ => "",
        };
        let read: Option<fn(&str) -> Option<CpuSet>> = match name {
            "smp_affinity_list" => Some(CpuSet::from_list),
            "smp_affinity" | "rps_cpus" | "xps_cpus" => Some(CpuSet::from_mask),
            _ => None,
        };
        match read.map(|read| (read(one), read(other))) {
            Some((Some(one), Some(other))) => one == other,
            _ => words(one) == words(other),
        }
    }

    /// Whether `found` is what `asked` asks for. A card may round the size of a ring up, and `rx-usecs` to the steps of its clock: a
    /// quarter to either side.
    pub fn meets(&self, found: &str, asked: &str) -> bool {
        use NicParameter::{RxRing, RxUsecs, TxRing};
        let number = |text: &str| text.trim().parse::<u32>().ok().map(u64::from);
        let (Some(number_found), Some(number_asked)) = (number(found), number(asked)) else {
            return self.same(found, asked);
        };
        match self {
            Self::Nic { parameter: RxRing | TxRing, .. } => number_found >= number_asked,
            Self::Nic { parameter: RxUsecs, .. } => {
                number_found.abs_diff(number_asked) * 4 <= number_asked
            }
            _ => self.same(found, asked),
        }
    }

    /// Whether `ethtool` sets it, which may change other targets as well.
    pub(crate) fn is_card(&self) -> bool {
        matches!(self, Self::Nic { .. })
    }

    /// Whether it is known by the number of an interrupt, which lasts until a reboot.
    pub(crate) fn is_irq(&self) -> bool {
        matches!(self, Self::File { path } if path.starts_with("/proc/irq/"))
    }

    /// What happens while this is changed that somebody might notice.
    pub fn warning(&self) -> Option<&'static str> {
        let Self::Nic { parameter, .. } = self else { return None };
        match parameter {
            NicParameter::RxRing | NicParameter::TxRing | NicParameter::CombinedChannels => {
                Some("the link may be down for a moment")
            }
            _ => None,
        }
    }

    /// The file of a sysctl, or the file itself, from `/`.
    fn path(&self) -> io::Result<String> {
        let path = match self {
            Self::Sysctl { name } => {
                let swap = |letter| match letter {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                };
                format!("/proc/sys/{}", name.chars().map(swap).collect::<String>())
            }
            Self::File { path } => path.clone(),
            Self::Nic { .. } | Self::Limit { .. } => return Err(ErrorKind::Unsupported.into()),
        };
        let below = ["/proc/sys/", "/proc/irq/", "/sys/"];
        let odd = |part: &str| ["", ".", ".."].contains(&part) || part.contains(char::is_control);
        if below.iter().any(|folder| path.starts_with(folder)) && !path.split('/').skip(1).any(odd)
        {
            return Ok(path);
        }
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no file below /proc/sys, /proc/irq or /sys",
        ))
    }

    /// Whether this is a place at all that values go to.
    ///
    /// # Errors
    /// `InvalidInput`, with what is wrong.
    pub fn check(&self) -> io::Result<()> {
        match self {
            Self::Sysctl { .. } | Self::File { .. } => self.path().map(drop),
            Self::Nic { .. } => self.check_interface(),
            Self::Limit { directive } => {
                let is_directive = directive.starts_with("Limit")
                    && directive.chars().all(|letter| letter.is_ascii_alphabetic());
                let refused = || io::Error::new(ErrorKind::InvalidInput, "it is no Limit…=");
                is_directive.then_some(()).ok_or_else(refused)
            }
        }
    }

    fn check_interface(&self) -> io::Result<()> {
        let Self::Nic { interface, parameter } = self else { return Ok(()) };
        let feature = match parameter {
            NicParameter::Feature(name) => name.as_str(),
            _ => "on",
        };
        let odd = |word: &str| {
            word.is_empty() || word.starts_with(['-', '.']) || word.contains(['/', ' ', '\n'])
        };
        if odd(interface) || odd(feature) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is no interface with a parameter",
            ));
        }
        Ok(())
    }
}

/// What `ethtool` says when asked; `NotFound` when the interface is gone.
fn ethtool(host: &Host, interface: &str, arguments: &[&str]) -> io::Result<String> {
    host.ethtool(arguments).map_err(|error| of_interface(host, interface, error))
}

fn of_interface(host: &Host, interface: &str, error: io::Error) -> io::Error {
    let gone = !host.path(format!("/sys/class/net/{interface}")).exists()
        || error.to_string().contains("No such device");
    if gone && error.kind() != ErrorKind::NotFound {
        let words = format!("there is no interface {interface}");
        return io::Error::new(ErrorKind::NotFound, words);
    }
    error
}

impl NicParameter {
    /// The option that shows it.
    fn asks(&self) -> &'static str {
        match self {
            Self::RxRing | Self::TxRing => "-g",
            Self::CombinedChannels => "-l",
            Self::AdaptiveRx | Self::RxUsecs => "-c",
            Self::Feature(_) => "-k",
        }
    }

    /// The option that sets it and its name there.
    fn sets(&self) -> (&'static str, &str) {
        match self {
            Self::RxRing => ("-G", "rx"),
            Self::TxRing => ("-G", "tx"),
            Self::CombinedChannels => ("-L", "combined"),
            Self::AdaptiveRx => ("-C", "adaptive-rx"),
            Self::RxUsecs => ("-C", "rx-usecs"),
            Self::Feature(name) => ("-K", name),
        }
    }

    /// Its value in what `ethtool` shows; what the card does not have is shown as `n/a` or not at all.
    fn find(&self, said: &str) -> Option<String> {
        let (name, is_below_most) = match self {
            Self::RxRing => ("RX", true),
            Self::TxRing => ("TX", true),
            Self::CombinedChannels => ("Combined", true),
            Self::AdaptiveRx => ("Adaptive RX", false),
            Self::RxUsecs => ("rx-usecs", false),
            Self::Feature(name) => (name.as_str(), false),
        };
        let current = said.split_once("Current hardware settings:").map(|(_, current)| current);
        let text = if is_below_most { current? } else { said };
        let mut values = text.lines().filter_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.trim() == name).then(|| value.split_whitespace().next())?
        });
        values.next().filter(|&value| value != "n/a").map(str::to_owned)
    }
}

/// As people call it: `net.core.rmem_max`, `/proc/irq/24/smp_affinity_list`, `rx ring of eth0`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { name } => f.write_str(name),
            Self::File { path } => f.write_str(path),
            Self::Limit { directive } => write!(f, "{directive}= of the service"),
            Self::Nic { interface, parameter } => match parameter {
                NicParameter::RxRing => write!(f, "the rx ring of {interface}"),
                NicParameter::TxRing => write!(f, "the tx ring of {interface}"),
                NicParameter::CombinedChannels => write!(f, "the queues of {interface}"),
                NicParameter::AdaptiveRx => write!(f, "adaptive-rx of {interface}"),
                NicParameter::RxUsecs => write!(f, "rx-usecs of {interface}"),
                NicParameter::Feature(name) => write!(f, "{name} of {interface}"),
            },
        }
    }
}
