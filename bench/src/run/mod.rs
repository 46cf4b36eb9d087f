//! One run: workers join, warm up, pause, measure, drain, leave; the controller looks at the server meanwhile.
//!
//! Media stands still before and after the measurement until nothing is under way, so that what was sent and what arrived can be
//! compared packet by packet. Only with people who come and go it cannot; there numbering tells what lacks.

mod assemble;
mod clocks;
mod crew;
mod expect;
mod verdict;

use std::time::Duration;

use sluice_engine::clock::{self, Instant};

use crate::conversation::Target;
use crate::machine;
use crate::probe::{self, CpuSample, Metrics};
use crate::result::{IdleUse, Phase, RunResult, Tick, UdpCounters};
use crate::scenario::Scenario;
use crate::signalling::account;
use crate::stop;
use crate::worker::protocol::{Order, Progress, Window};
use crew::Crew;

/// What is run against what, and by whom.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub target: Target,
    /// The server's process, when it runs on this host.
    pub pid: Option<u32>,
    pub scenario: Scenario,
    pub seed: u64,
    /// Share of received packets that are decrypted and checked.
    pub verify: f64,
    /// Workers on threads of this process.
    pub threads: u32,
    /// Workers elsewhere.
    pub workers: Vec<std::net::SocketAddr>,
    /// What they want to be told.
    pub secret: String,
    pub label: String,
    /// The command line, for the report.
    pub command: String,
    /// Whether the server may have a public address.
    pub allow_public: bool,
    /// Interface that the media crosses, for the report.
    pub interface: Option<String>,
}

/// Told once a second; the number is of all participants to come.
pub type Watcher<'a> = &'a mut dyn FnMut(&Tick, u32);

/// Between the last join and the look at memory: what a handshake leaves behind is freed a little later.
const SETTLE: Duration = Duration::from_secs(1);
/// How long after the warm-up subscriptions may still come.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(30);
/// The look at a server without clients, for what it costs by itself.
const EMPTY_MAX: Duration = Duration::from_secs(5);
/// The last join, delays of the server's negotiation included.
const JOIN_EXTRA: Duration = Duration::from_secs(30);

/// A run under way.
struct Run<'a> {
    options: &'a RunOptions,
    crew: Crew,
    watcher: Watcher<'a>,
    began: Instant,
    next_tick: Instant,
    last: (Instant, Progress, Option<CpuSample>),
    phase: Phase,
    series: Vec<Tick>,
    /// Who had joined when the measurement began.
    joined: u32,
    problems: Vec<String>,
}

/// What the server and the machine showed at one moment.
struct Look {
    at: Instant,
    cpu: CpuSample,
    metrics: Metrics,
    server_sockets: u64,
    kernel: Option<UdpCounters>,
}

/// Runs a scenario; the result is whole even when it was stopped early, and says so.
///
/// # Errors
/// The server refused or is gone, a worker cannot be reached, nobody could join, or there are no sockets.
pub fn run(options: &RunOptions, watcher: Watcher<'_>) -> Result<RunResult, String> {
    let began = clock::now();
    let mut result = assemble::begin(options);
    let before = Look::take(options)?;
    if let Some(pid) = options.pid {
        result.server.resident_before_bytes = probe::resident_bytes(pid)?;
    }
    let empty = match options.scenario.has_media() {
        true => None,
        false => Some(look_at_empty(options)?),
    };
    let mut problems = Vec::new();
    let crew = Crew::gather(options, &mut problems)?;
    let mut run = Run {
        options,
        crew,
        watcher,
        began,
        next_tick: began,
        last: (began, Progress::default(), Some(before.cpu)),
        phase: Phase::Joining,
        series: Vec::new(),
        joined: 0,
        problems,
    };
    let outcome = run.through(&mut result, empty);
    // Whatever happened, nobody stays.
    run.phase = Phase::Leaving;
    run.crew.leave(&mut run.problems);
    result.series = std::mem::take(&mut run.series);
    outcome?;
    result.machine.load_after = machine::load();
    result.partial = stop::is_stopped();
    let people = options.scenario.calls.people();
    result.complete = run.joined == people && result.loss.sessions_closed == 0;
    verdict::judge(&mut result, run.problems);
    Ok(result)
}

impl Run<'_> {
    fn through(&mut self, result: &mut RunResult, empty: Option<f64>) -> Result<(), String> {
        let scenario = &self.options.scenario;
        let exact = expect::is_exact(scenario);
        self.crew.order_all(|| Order::Publish(true))?;
        self.crew.order_all(|| Order::Join)?;
        let joining = clock::now();
        self.join(joining)?;
        result.join_all_s = clock::now().since(joining).as_secs_f64();
        self.stay(SETTLE)?;
        self.joined = self.crew.progress().joined;
        if let Some(pid) = self.options.pid {
            let server = &mut result.server;
            server.resident_joined_bytes = probe::resident_bytes(pid)?;
            let grown = server.resident_joined_bytes.saturating_sub(server.resident_before_bytes);
            server.resident_per_session_bytes = grown as f64 / f64::from(self.joined.max(1));
        }

        self.phase = if scenario.has_media() { Phase::WarmingUp } else { Phase::Idle };
        self.stay(Duration::from_secs_f64(scenario.time.warmup_s))?;
        self.await_subscriptions()?;
        if exact {
            self.pause()?;
        }

        if scenario.has_media() {
            self.phase = Phase::Measuring;
        }
        // What the looks themselves cost the server lies outside of what is measured.
        let first = Look::take(self.options)?;
        self.crew.order_all(|| Order::OpenWindow)?;
        let first = Look { cpu: CpuSample::take(self.options.pid)?, at: clock::now(), ..first };
        self.crew.order_all(|| Order::Publish(true))?;
        self.stay(Duration::from_secs_f64(scenario.time.measure_s))?;
        let (cpu, at) = (CpuSample::take(self.options.pid)?, clock::now());
        if exact {
            self.pause()?;
        }
        let windows = self.crew.close_windows()?;
        let last = Look { cpu, at, ..Look::take(self.options)? };
        self.crew.check_clocks(&mut self.problems)?;
        if let Some(pid) = self.options.pid {
            result.server.resident_end_bytes = probe::resident_bytes(pid)?;
        }
        assemble::finish(result, self.options, &first, &last, &windows);
        if let Some(empty) = empty {
            result.idle = Some(idle_use(result, empty));
        }
        Ok(())
    }

    /// Waits until everybody has joined, or failed to.
    fn join(&mut self, since: Instant) -> Result<(), String> {
        let join = self.options.scenario.join;
        let limit = Duration::from_secs_f64(join.ramp_s + join.timeout_s) + JOIN_EXTRA;
        // Not by the seats that workers tell of: one elsewhere may not have told of any yet.
        let people = self.options.scenario.calls.people();
        loop {
            self.look()?;
            let Progress { joined, failed, .. } = self.crew.progress();
            if stop::is_stopped() || joined + failed >= people {
                break;
            }
            if clock::now().since(since) > limit {
                self.problems.push(format!("{joined} of {people} had joined after {limit:?}"));
                break;
            }
        }
        let Progress { joined, .. } = self.crew.progress();
        if joined == 0 && !stop::is_stopped() {
            let windows = self.crew.close_windows()?;
            let reasons: Vec<_> =
                windows.iter().flat_map(|w: &Window| w.failures.clone()).collect();
            return Err(format!("nobody of {people} could join: {}", reasons.join("; ")));
        }
        Ok(())
    }

    /// Waits until every receiver gets every stream. Nobody mutes or leaves before.
    fn await_subscriptions(&mut self) -> Result<(), String> {
        let scenario = &self.options.scenario;
        let expected = expect::subscriptions(scenario, self.options.target.api);
        let since = clock::now();
        while self.crew.progress().subscriptions < expected && !stop::is_stopped() {
            if clock::now().since(since) > SUBSCRIBE_MAX {
                let got = self.crew.progress().subscriptions;
                self.problems.push(format!(
                    "{got} of {expected} subscriptions had begun when the measurement began"
                ));
                break;
            }
            self.look()?;
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<(), String> {
        self.crew.order_all(|| Order::Publish(false))?;
        self.crew.await_quiet()
    }

    /// Lets time pass, or Ctrl-C be pressed.
    fn stay(&mut self, time: Duration) -> Result<(), String> {
        let end = clock::now() + time;
        while clock::now() < end && !stop::is_stopped() {
            self.look()?;
        }
        Ok(())
    }

    /// Hears the workers, and once a second looks at the server.
    fn look(&mut self) -> Result<(), String> {
        self.crew.hear(&mut self.problems)?;
        let now = clock::now();
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + Duration::from_secs(1);
        let progress = self.crew.progress();
        let cpu = CpuSample::take(self.options.pid)?;
        let (then, before, sample) = &self.last;
        let elapsed = now.since(*then).as_secs_f64().max(1e-3);
        let rate = |after: u64, before: u64| after.saturating_sub(before) as f64 / elapsed;
        let spent = sample.as_ref().map_or(0.0, |sample| cpu.since(sample).server_s());
        let tick = Tick {
            at_s: now.since(self.began).as_secs_f64(),
            phase: self.phase,
            participants: progress.joined,
            server_cores: spent / elapsed,
            packets_in_per_s: rate(progress.packets_sent, before.packets_sent),
            packets_out_per_s: rate(progress.packets_received, before.packets_received),
            loss: progress.gaps as f64 / (progress.packets_received + progress.gaps).max(1) as f64,
            resident_bytes: self.options.pid.map_or(Ok(0), probe::resident_bytes)?,
        };
        self.last = (now, progress, Some(cpu));
        self.series.push(tick);
        (self.watcher)(&tick, self.options.scenario.calls.people());
        Ok(())
    }
}

impl Look {
    fn take(options: &RunOptions) -> Result<Self, String> {
        // A server without metrics can be measured as well, by the kernel's.
        let metrics = account::get(&options.target, "/metrics");
        Ok(Self {
            metrics: metrics.map(|answer| Metrics::parse(&answer.body)).unwrap_or_default(),
            server_sockets: options.pid.map_or(0, probe::process_socket_drops),
            kernel: options.pid.and_then(UdpCounters::of_process),
            cpu: CpuSample::take(options.pid)?,
            at: clock::now(),
        })
    }
}

/// What the server spends on nobody, cores.
fn look_at_empty(options: &RunOptions) -> Result<f64, String> {
    let time = Duration::from_secs_f64(options.scenario.time.measure_s).min(EMPTY_MAX);
    let before = CpuSample::take(options.pid)?;
    let start = clock::now();
    while clock::now().since(start) < time && !stop::is_stopped() {
        std::thread::park_timeout(crew::NAP);
    }
    let elapsed = clock::now().since(start).as_secs_f64().max(1e-3);
    Ok(CpuSample::take(options.pid)?.since(&before).server_s() / elapsed)
}

fn idle_use(result: &RunResult, empty: f64) -> IdleUse {
    let sessions = result.series.last().map_or(0, |tick| tick.participants);
    let spent = (result.server.cores - empty).max(0.0);
    IdleUse {
        elapsed_s: result.elapsed_s,
        sessions,
        cores: result.server.cores,
        us_per_session_second: spent * 1e6 / f64::from(sessions.max(1)),
    }
}
