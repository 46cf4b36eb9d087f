//! Arguments that say what load is put on which server.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::conversation::{Account, Target, TargetApi};
use crate::probe;
use crate::run::RunOptions;
use crate::scenario::{Scenario, fit, parse_factor, scale};
use crate::signalling::public_address;

/// The load.
#[derive(Args, Clone, Debug)]
pub struct LoadArguments {
    /// A scenario that comes with the program (see `sluice-bench scenarios`), or a file
    #[arg(long)]
    pub scenario: String,
    /// Shrinks it: by calls while there are several, else by participants; 0.001 to 1
    #[arg(long, conflicts_with = "fit", value_parser = parse_factor)]
    pub scale: Option<f64>,
    /// Shrinks it, if need be, until the server sends no more than so many packets a second and receives no more than half as many
    #[arg(long, value_name = "PACKETS_PER_SECOND")]
    pub fit: Option<f64>,
    /// Seconds of the measurement, in place of the scenario's
    #[arg(long)]
    pub measure_s: Option<f64>,
    /// Seconds of media before it, in place of the scenario's
    #[arg(long)]
    pub warmup_s: Option<f64>,
    /// Share of received packets that are decrypted and checked: 0.001 to 1
    #[arg(long, default_value_t = 0.01)]
    pub verify: f64,
    /// Seeds identifiers, credentials, and who does what when
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Workers on threads of this process; 0 when all are elsewhere
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub threads: u32,
    /// Workers elsewhere, started as `sluice-bench worker`
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS:PORT,…")]
    pub workers: Vec<SocketAddr>,
    /// What those workers want to be told
    #[arg(long, env = "SLUICE_BENCH_SECRET", default_value = "", hide_env_values = true)]
    pub secret: String,
    /// Interface that the media crosses, for the description of the machine
    #[arg(long)]
    pub interface: Option<String>,
    /// Bearer token of the native API and of WHIP
    #[arg(long, env = "SLUICE_BENCH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Client id for a server of rtcd's API that does not let one register oneself
    #[arg(long, requires = "rtcd_key")]
    pub rtcd_client: Option<String>,
    /// Its key
    #[arg(long, env = "SLUICE_BENCH_RTCD_KEY", requires = "rtcd_client", hide_env_values = true)]
    pub rtcd_key: Option<String>,
    /// Allows a server with a public address. Only with the consent of whoever runs it
    #[arg(long)]
    pub allow_public: bool,
}

impl LoadArguments {
    /// The scenario, shrunk and changed as the arguments say.
    ///
    /// # Errors
    /// There is none of this name, or it is out of bounds.
    pub fn scenario(&self) -> Result<Scenario, String> {
        if !(0.001..=1.0).contains(&self.verify) {
            // Fewer, and a receiver could go half a round of sequence numbers without one: it would lose count.
            return Err(format!("--verify {} is not 0.001 to 1", self.verify));
        }
        let mut scenario = Scenario::find(&self.scenario)?;
        if let Some(seconds) = self.measure_s {
            scenario.time.measure_s = seconds;
        }
        if let Some(seconds) = self.warmup_s {
            scenario.time.warmup_s = seconds;
        }
        scenario.check()?;
        match (self.scale, self.fit) {
            (Some(factor), _) => Ok(scale(&scenario, factor)),
            (None, Some(packets)) => Ok(fit(&scenario, packets)),
            (None, None) => Ok(scenario),
        }
    }

    /// The server behind `--target`, and what is needed to join it.
    ///
    /// # Errors
    /// It is not understood, has a public address, or the scenario cannot be done by its API.
    pub fn target(&self, text: &str, scenario: &Scenario) -> Result<Target, String> {
        let mut target = Target::parse(text)?;
        target.token.clone_from(&self.token);
        if let (Some(client), Some(key)) = (&self.rtcd_client, &self.rtcd_key) {
            target.account = Some(Account { client: client.clone(), key: key.clone() });
        }
        if !self.allow_public
            && let Some(address) = public_address(&target)?
        {
            return Err(format!(
                "{text} is at {address}, a public address: --allow-public puts load on it, with the consent of whoever runs it"
            ));
        }
        let calls = scenario.calls;
        if target.api == TargetApi::Whip
            && (calls.unmuted > 1 || calls.screens > 1 || scenario.mute.is_some())
        {
            return Err(format!(
                "a player of WHEP gets one audio and one video: {} has {} unmuted and {} screens in a call, \
                or mutes; use the rtcd or sluice API",
                scenario.name, calls.unmuted, calls.screens
            ));
        }
        if target.api == TargetApi::Rtcd && calls.screens > 1 {
            return Err(format!(
                "by rtcd's API one of a call shares its screen, and in {} {} do; use the sluice API",
                scenario.name, calls.screens
            ));
        }
        if target.api != TargetApi::Rtcd && !scenario.has_media() {
            return Err(format!(
                "nobody sends in {}: only by rtcd's API do clients connect before there is anything to receive",
                scenario.name
            ));
        }
        Ok(target)
    }

    /// What one run needs.
    pub fn options(
        &self,
        target: Target,
        pid: Option<u32>,
        scenario: Scenario,
        label: &str,
    ) -> RunOptions {
        let pid = pid.or_else(|| {
            let is_here = target.address().is_some_and(|address| address.is_loopback());
            is_here.then(|| probe::listener(target.port())).flatten()
        });
        RunOptions {
            pid,
            scenario,
            seed: self.seed,
            verify: self.verify,
            threads: self.threads,
            workers: self.workers.clone(),
            secret: self.secret.clone(),
            label: label.to_owned(),
            command: super::command_line(),
            interface: self.interface.clone(),
            allow_public: self.allow_public,
            target,
        }
    }
}

/// How long a run takes at the least: what a person who waits wants to know.
pub fn least_time(scenario: &Scenario) -> Duration {
    let time = scenario.time;
    Duration::from_secs_f64(scenario.join.ramp_s + time.warmup_s + time.measure_s + 3.0)
}
