//! The settings of this host: looked at when the server starts, changed where that was allowed, shown to operators.

use std::sync::{Arc, Mutex, PoisonError};

use sluice_engine::clock::{self, Instant};
use sluice_tuning::advice::{self, Report};
use sluice_tuning::apply::{self, ApplyError, Options};
use sluice_tuning::change::Change;
use sluice_tuning::demand::{Demand, Goal};
use sluice_tuning::facts::Facts;
use sluice_tuning::finding::{Finding, Verdict};
use sluice_tuning::host::Host;
use sluice_tuning::restore::{self, Fate};
use sluice_tuning::topology::{self, Placement};

use crate::config::TuneMode;
use crate::service::unix_s;

/// Looks at the host and changes it, as far as the mode goes. All that reads or writes blocks.
#[derive(Debug)]
pub struct HostTuning {
    mode: TuneMode,
    goal: Goal,
    host: Host,
    last: Mutex<Option<Arc<Look>>>,
    /// Held by the request that looks or changes.
    turn: tokio::sync::Mutex<()>,
}

/// What one look showed.
#[derive(Debug)]
pub struct Look {
    /// When it began.
    pub at: Instant,
    /// What is there.
    pub facts: Facts,
    /// What that means for the expected load.
    pub report: Report,
}

impl Look {
    /// How many findings have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.report.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// Whether somebody would notice a card that is away for a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calls {
    /// Nobody would.
    None,
    /// Calls run.
    Run,
}

/// What was done to the host.
#[derive(Debug, Default)]
pub struct Done {
    /// One line each, as a command; empty when all was as it should be.
    pub done: Vec<String>,
    /// What was left, and why.
    pub left: Vec<String>,
}

/// Why the host was left as it is.
#[derive(Debug)]
pub enum Refusal {
    /// The server was not started with `--tune apply`.
    NotAllowed,
    /// The host refused; the sentence says what, and that nothing changed.
    Failed(String),
}

impl HostTuning {
    /// Nothing is read until somebody looks.
    pub fn new(mode: TuneMode, goal: Goal, host: Host) -> Self {
        let (last, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { mode, goal, host, last, turn }
    }

    /// How far it may go.
    pub fn mode(&self) -> TuneMode {
        self.mode
    }

    /// The load and the shards that all is sized for.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// What the host showed when it was looked at last; nothing while the mode is `off`.
    pub fn last(&self) -> Option<Arc<Look>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks, unless the mode is `off`.
    pub fn look(&self) -> Option<Arc<Look>> {
        if self.mode == TuneMode::Off {
            return None;
        }
        let at = clock::now();
        let facts = Facts::read(&self.host, 0);
        let report = advice::check(&facts, &self.goal);
        let look = Some(Arc::new(Look { at, facts, report }));
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&look);
        look
    }

    /// Looks, unless somebody has done so after `asked`: requests that wait for one another share a look.
    pub fn look_for(&self, asked: Instant) {
        if self.last().is_none_or(|look| look.at < asked) {
            self.look();
        }
    }

    /// Waits until no other request looks or changes.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// What the load needs, without a look when the mode is `off`.
    pub fn demand(&self) -> Demand {
        match self.last() {
            Some(look) => look.report.demand.clone(),
            None => Demand::of(&self.goal, &Facts::default()),
        }
    }

    /// The cores of `shards` shards out of `allowed`, by the host's topology; nothing when that is not known.
    pub fn place(&self, shards: usize, allowed: &[usize]) -> Option<Placement> {
        Some(topology::place(&self.last()?.facts, shards, allowed))
    }

    /// Changes what a new look finds wrong, then what could be better: a refusal there leaves the first as it is. What only a start of
    /// the service changes stays, and while `calls` run what takes a card off the network for a moment.
    ///
    /// # Errors
    /// The mode, or the host's refusal of something needed; its words say what that leaves.
    pub fn apply(&self, calls: Calls) -> Result<Done, Refusal> {
        let look = self.allowed_look()?;
        if let Some(sentence) = apply::would_forget(&look.facts) {
            return Err(Refusal::Failed(sentence));
        }
        let mut done = Done::default();
        let needed = self.apply_those(&look, Verdict::Wrong, calls, &mut done);
        let useful = match needed {
            Ok(()) => self.apply_those(&look, Verdict::Better, calls, &mut done),
            Err(_) => Ok(()),
        };
        self.look();
        needed.map_err(|error| Refusal::Failed(error.to_string()))?;
        done.left.extend(useful.err().map(|error| error.to_string()));
        Ok(done)
    }

    fn apply_those(
        &self,
        look: &Look,
        verdict: Verdict,
        calls: Calls,
        done: &mut Done,
    ) -> Result<(), ApplyError> {
        let is_left = |change: &Change| calls == Calls::Run && change.target.warning().is_some();
        let (left, plan): (Vec<_>, Vec<_>) = changes(&look.report, verdict).partition(is_left);
        let options = Options { persist: None, now_unix_s: unix_s() };
        let look_again = || {
            let report = advice::check(&Facts::read(&self.host, 0), &self.goal);
            changes(&report, verdict).filter(|change| !is_left(change)).collect()
        };
        let applied = apply::apply_and_look_again(&self.host, &plan, look_again, &options)?;
        done.done.extend(applied.steps.iter().map(ToString::to_string));
        let late =
            left.iter().map(|change| format!("{}   # not while calls run", change.command()));
        done.left.extend(late);
        done.left.extend(applied.needs_persist.iter().map(|change| change.command()));
        Ok(())
    }

    /// Puts back what was there before.
    ///
    /// # Errors
    /// The mode, or the host's refusal.
    pub fn restore(&self) -> Result<Done, Refusal> {
        self.allowed_look()?;
        let restored = restore::restore(&self.host, false);
        self.look();
        let restored = restored.map_err(|error| Refusal::Failed(error.to_string()))?;
        let mut done = Done::default();
        for item in &restored.items {
            match item.fate {
                Fate::PutBack => done.done.push(item.to_string()),
                Fate::WasSo => {}
                _ => done.left.push(item.to_string()),
            }
        }
        Ok(done)
    }

    fn allowed_look(&self) -> Result<Arc<Look>, Refusal> {
        match self.mode {
            TuneMode::Apply => self.look().ok_or(Refusal::NotAllowed),
            TuneMode::Check | TuneMode::Off => Err(Refusal::NotAllowed),
        }
    }

    fn apply_at_start(&self) {
        match self.apply(Calls::None) {
            Ok(applied) => {
                applied.done.iter().for_each(|step| tracing::info!("tuned: {step}"));
                applied.left.iter().for_each(|step| tracing::warn!("left as it is: {step}"));
                if !applied.done.is_empty() {
                    tracing::info!("to put all of it back: sluice-tune restore");
                }
            }
            Err(Refusal::Failed(reason)) => tracing::warn!("the host was not tuned: {reason}"),
            Err(Refusal::NotAllowed) => {}
        }
    }

    /// Looks for the first time, applies where the mode says so, and says in the log what is left.
    pub fn start(&self) {
        match self.mode {
            TuneMode::Off => {}
            TuneMode::Check => drop(self.look()),
            // It looks by itself.
            TuneMode::Apply => self.apply_at_start(),
        }
        let Some(look) = self.last() else { return };
        for finding in &look.report.findings {
            if finding.verdict == Verdict::Wrong {
                tracing::warn!("{}", sentence(finding));
            }
        }
        let better = look.count(Verdict::Better);
        if better > 0 {
            tracing::info!("{better} settings of this host could be better: sluice-tune check");
        }
    }
}

/// What is to be done about the findings of this verdict.
fn changes(report: &Report, verdict: Verdict) -> impl Iterator<Item = Change> {
    let findings = report.findings.iter().filter(move |finding| finding.verdict == verdict);
    findings.flat_map(|finding| finding.changes.clone())
}

/// A finding in one line, with what to do about it.
fn sentence(finding: &Finding) -> String {
    let subject = finding.subject.as_ref().map(|of| format!(" of {of}")).unwrap_or_default();
    let found = finding.found.as_deref().unwrap_or("unknown");
    let wanted = finding.wanted.as_deref().unwrap_or("something else");
    let commands: Vec<_> = finding.changes.iter().map(|change| change.command()).collect();
    let remedy = match &finding.remedy {
        Some(remedy) => remedy.clone(),
        None => commands.join("; "),
    };
    let key = finding.setting.key;
    format!(
        "{key}{subject} is {found}, wanted is {wanted}: {} To mend it: {remedy}",
        finding.setting.effect
    )
}

#[cfg(test)]
mod tests {
    use sluice_tuning::testing::Tree;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_the_command_that_mends_it() {
        let tree = Tree::stock_vm();
        tree.write("proc/self/status", "CapEff:\t0000000000000000\n");
        let goal = Goal { socket_buffer_bytes: Some(0), ..Goal::default() };
        let tuning = HostTuning::new(TuneMode::Check, goal, tree.host());
        let look = tuning.look().unwrap();
        let wrong = look.report.findings.iter().filter(|f| f.verdict == Verdict::Wrong);
        let sentences: Vec<_> = wrong.map(sentence).collect();
        let begin = "net.core.rmem_max is 212992 (208 KiB), wanted is ";
        let end = "To mend it: sysctl -w net.core.rmem_max=16777216";
        assert!(
            sentences.iter().any(|s| s.starts_with(begin) && s.ends_with(end)),
            "{sentences:?}"
        );
    }
}
