//! The workers of a run, all together.

use std::time::Duration;

use sluice_engine::clock;

use super::{RunOptions, clocks};
use crate::worker::protocol::{Assignment, Order, Progress, Report, Window};
use crate::worker::{self, Link};

/// All workers.
pub struct Crew {
    members: Vec<Member>,
}

struct Member {
    link: Link,
    /// Of a worker elsewhere.
    clock: Option<clocks::Offset>,
    progress: Progress,
    quiet: bool,
    window: Option<Window>,
    left: bool,
}

/// How long one waits before one looks again.
pub const NAP: Duration = Duration::from_millis(20);
/// Sockets for thousands of clients take a while.
const PREPARE_MAX: Duration = Duration::from_secs(60);
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A clock of another host that is less certain makes latencies uncertain.
const CLOCK_WITHIN_NS: u64 = 100_000;

impl Crew {
    /// Starts and connects all workers, and tells them which run it is.
    ///
    /// # Errors
    /// One of them cannot be reached, or cannot do it.
    pub fn gather(options: &RunOptions, problems: &mut Vec<String>) -> Result<Self, String> {
        let workers = options.threads + options.workers.len() as u32;
        if workers == 0 {
            return Err("there are no workers: give --threads or --workers".to_owned());
        }
        let mut links = Vec::new();
        for address in &options.workers {
            links.push(worker::connect(*address, &options.secret)?);
        }
        for number in 0..options.threads {
            links.push(worker::spawn(number)?);
        }
        let members = links.into_iter().map(Member::new).collect();
        let mut crew = Self { members };
        let run = run_name(options.seed);
        for (number, member) in crew.members.iter().enumerate() {
            member.link.send(Order::Prepare(Box::new(Assignment {
                target: options.target.clone(),
                scenario: options.scenario.clone(),
                run: run.clone(),
                seed: options.seed,
                verify: options.verify,
                allow_public: options.allow_public,
                worker: number as u32,
                workers,
            })))?;
        }
        for member in &mut crew.members {
            let since = clock::now();
            loop {
                match member.link.receive(ANSWER_MAX)? {
                    Some(Report::Prepared { .. }) => break,
                    _ if clock::now().since(since) > PREPARE_MAX => {
                        return Err(format!(
                            "worker {} is not ready after {PREPARE_MAX:?}",
                            member.link.name
                        ));
                    }
                    _ => {}
                }
            }
        }
        crew.set_clocks(options.workers.len(), problems)?;
        Ok(crew)
    }

    /// Sets the clocks of workers elsewhere to the controller's.
    fn set_clocks(&mut self, remote: usize, problems: &mut Vec<String>) -> Result<(), String> {
        for member in self.members.iter_mut().take(remote) {
            let found = clocks::offset(&member.link)?;
            member.link.send(Order::SetClock { ahead_ns: found.ahead_ns })?;
            member.clock = Some(found);
            if found.within_ns > CLOCK_WITHIN_NS {
                problems.push(format!(
                    "the clock of worker {} is known to {} µs: latencies are no better",
                    member.link.name,
                    found.within_ns / 1_000
                ));
            }
        }
        Ok(())
    }

    /// Looks whether the clocks of workers elsewhere went with the controller's.
    ///
    /// # Errors
    /// A worker is gone.
    pub fn check_clocks(&mut self, problems: &mut Vec<String>) -> Result<(), String> {
        for Member { link, clock, .. } in &self.members {
            let Some(before) = clock else { continue };
            let moved = clocks::offset(link)?.ahead_ns.abs_diff(before.ahead_ns);
            if moved > CLOCK_WITHIN_NS {
                let micros = moved / 1_000;
                problems.push(format!(
                    "the clock of worker {} moved by {micros} µs: latencies are no better",
                    link.name
                ));
            }
        }
        Ok(())
    }

    /// Gives everybody an order.
    ///
    /// # Errors
    /// A worker is gone.
    pub fn order_all(&mut self, order: impl Fn() -> Order) -> Result<(), String> {
        for member in &mut self.members {
            let order = order();
            if matches!(order, Order::Publish(_)) {
                member.quiet = false;
            }
            member.link.send(order)?;
        }
        Ok(())
    }

    /// Takes what the workers say, waiting a little.
    ///
    /// # Errors
    /// A worker is gone, or cannot go on.
    pub fn hear(&mut self, problems: &mut Vec<String>) -> Result<(), String> {
        let mut patience = NAP;
        for member in &mut self.members {
            while let Some(report) = member.link.receive(patience)? {
                patience = Duration::ZERO;
                member.take(report, problems);
            }
            patience = Duration::ZERO;
        }
        Ok(())
    }

    /// All progress together.
    pub fn progress(&self) -> Progress {
        let mut sum = Progress::default();
        for Member { progress, .. } in &self.members {
            sum.joined += progress.joined;
            sum.failed += progress.failed;
            sum.packets_sent += progress.packets_sent;
            sum.packets_received += progress.packets_received;
            sum.gaps += progress.gaps;
            sum.subscriptions += progress.subscriptions;
        }
        sum
    }

    /// Waits until nothing is under way.
    ///
    /// # Errors
    /// As [`Crew::hear`].
    pub fn await_quiet(&mut self) -> Result<(), String> {
        self.await_all("fall silent", |member| member.quiet)
    }

    /// Ends the windows.
    ///
    /// # Errors
    /// As [`Crew::hear`].
    pub fn close_windows(&mut self) -> Result<Vec<Window>, String> {
        self.order_all(|| Order::CloseWindow)?;
        self.await_all("count", |member| member.window.is_some())?;
        Ok(self.members.iter_mut().filter_map(|member| member.window.take()).collect())
    }

    /// Everybody leaves, as far as workers are still there.
    pub fn leave(&mut self, problems: &mut Vec<String>) {
        if self.order_all(|| Order::Leave).is_err() {
            return;
        }
        let since = clock::now();
        while self.members.iter().any(|member| !member.left)
            && clock::now().since(since) < ANSWER_MAX
        {
            if self.hear(problems).is_err() {
                return;
            }
        }
    }

    fn await_all(&mut self, what: &str, done: impl Fn(&Member) -> bool) -> Result<(), String> {
        let since = clock::now();
        let mut warnings = Vec::new();
        while !self.members.iter().all(&done) {
            self.hear(&mut warnings)?;
            if clock::now().since(since) > ANSWER_MAX {
                return Err(format!("a worker did not {what} within {ANSWER_MAX:?}"));
            }
        }
        Ok(())
    }
}

impl Member {
    fn new(link: Link) -> Self {
        Self {
            link,
            clock: None,
            progress: Progress::default(),
            quiet: false,
            window: None,
            left: false,
        }
    }

    fn take(&mut self, report: Report, problems: &mut Vec<String>) {
        match report {
            Report::Tick(progress) => self.progress = progress,
            Report::Quiet => self.quiet = true,
            Report::Window(window) => self.window = Some(*window),
            Report::Left => self.left = true,
            Report::Warning(text) => problems.push(format!("worker {}: {text}", self.link.name)),
            Report::Prepared { .. } | Report::Clock { .. } | Report::Failed(_) => {}
        }
    }
}

/// Names the calls of a run, so that two runs on one server never meet.
fn run_name(seed: u64) -> String {
    let mut rng = fastrand::Rng::new();
    let letters = std::iter::repeat_with(|| rng.lowercase()).take(8).collect::<String>();
    format!("b{}{letters}", seed % 1_000)
}
