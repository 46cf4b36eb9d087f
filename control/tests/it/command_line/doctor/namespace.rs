//! Hosts on this machine: network namespaces without a name, in a user namespace of their own where the kernel allows that, so that no
//! privilege is needed. They go with the process that holds them.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};

/// One host.
pub(super) struct Host {
    holder: Child,
    /// Whether it is in a user namespace of its own.
    has_users: bool,
}

const HOLD: &str = "ip link set lo up && echo up && exec cat";

impl Host {
    /// A host of its own; `None`, and a line that says so, where the kernel lets this user make none.
    pub(super) fn new() -> Option<Self> {
        let with_users: &[&str] = &["--user", "--map-root-user", "--net"];
        let made =
            [(with_users, true), (&["--net"], false)].iter().find_map(|(kinds, has_users)| {
                let mut unshare = Command::new("unshare");
                unshare.args(*kinds).args(["sh", "-c", HOLD]);
                Self::held_by(unshare, *has_users)
            });
        if made.is_none() {
            // The test harness captures what macros print, and this is to be seen.
            let _ = std::io::stderr().write_all(
                b"SKIPPED: no network namespace can be made, neither by a user nor as root, or `ip` is missing\n",
            );
        }
        made
    }

    /// A host beside this one, `10.9.0.1` here and `10.9.0.2` there.
    pub(super) fn neighbour(&self) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sh", "-c", HOLD]);
        let other = Self::held_by(self.within(unshare), self.has_users);
        let other = other.expect("who made one network namespace can make another");
        let pid = other.holder.id();
        self.run(&format!("ip link add here type veth peer name there netns {pid}"));
        self.run("ip addr add 10.9.0.1/24 dev here && ip link set here up");
        other.run("ip addr add 10.9.0.2/24 dev there && ip link set there up");
        other
    }

    fn held_by(mut command: Command, has_users: bool) -> Option<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare and nsenter are of util-linux");
        let mut said = [0; 3];
        let read = holder.stdout.take().expect("it is piped").read_exact(&mut said);
        let host = Self { holder, has_users };
        (read.is_ok() && &said == b"up\n").then_some(host)
    }

    /// The same command on this host.
    pub(super) fn within(&self, command: Command) -> Command {
        let mut entering = Command::new("nsenter");
        entering
            .args(["--target", &self.holder.id().to_string()])
            .args(if self.has_users { &["--user", "--preserve-credentials"][..] } else { &[] })
            .args(["--net", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entering.env(name, value),
                None => entering.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            entering.current_dir(folder);
        }
        entering
    }

    /// Runs a line of shell, which must succeed.
    pub(super) fn run(&self, line: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let output = self.within(shell).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}` (of iproute2 or nftables) failed: {said}");
        output
    }

    /// Lets nothing in for a port.
    pub(super) fn drop_incoming(&self, rule: &str) {
        self.run(
            "nft add table inet filter && \
             nft 'add chain inet filter input { type filter hook input priority 0; }'",
        );
        self.run(&format!("nft add rule inet filter input {rule} drop"));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
