//! Where hashing happens: on blocking threads, few at a time, each source in turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::limiter::Source;
use super::queue::FairQueue;

/// Requests that wait for their turn; of more, the newest of the source that has most are refused.
const WAITING_MAX: usize = 256;

/// The longest wait for a turn, as in rtcd.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Lets few through at a time.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    running_max: usize,
}

#[derive(Debug)]
struct State {
    running: usize,
    queue: FairQueue<Source, oneshot::Sender<Turn>>,
}

/// A turn could not be had in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Busy;

/// The right to work; passed to the next in the queue when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Gate>>);

impl Gate {
    /// For half of the processors: the other half is for packets.
    pub(super) fn new() -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with((processors / 2).max(1), WAITING_MAX)
    }

    /// Lets `running_max` through at a time; `waiting_max` may wait.
    pub(super) fn with(running_max: usize, waiting_max: usize) -> Arc<Self> {
        let state = State { running: 0, queue: FairQueue::new(waiting_max) };
        Arc::new(Self { state: Mutex::new(state), running_max })
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// `Busy` when too many wait, or the turn does not come in time.
    pub(super) async fn enter(self: &Arc<Self>, source: Source) -> Result<Turn, Busy> {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.running < self.running_max {
                state.running += 1;
                return Ok(Turn(Some(Arc::clone(self))));
            }
            let (sender, turn) = oneshot::channel();
            // What is given back is dropped, which tells whoever waits for it.
            state.queue.push(source, sender);
            turn
        };
        match tokio::time::timeout(WAIT_MAX, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Busy),
        }
    }

    /// Gives a turn that came back to the next who still waits.
    fn pass_on(self: Arc<Self>) {
        let mut turn = Turn(Some(Arc::clone(&self)));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(waiting) = state.queue.pop() {
            match waiting.send(turn) {
                Ok(()) => return,
                // Gone meanwhile.
                Err(refused) => turn = refused,
            }
        }
        turn.0 = None;
        state.running -= 1;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    fn running(gate: &Gate) -> usize {
        gate.state.lock().expect("no test panics inside").running
    }

    /// Lets every task that can go on do so.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn no_more_run_than_may_and_each_source_has_its_turn() {
        let gate = Gate::with(1, 10);
        let first = gate.enter(source(1)).await.expect("it is free");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for from in [1, 1, 1, 2] {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let turn = gate.enter(source(from)).await;
                assert_eq!(running(&gate), 1);
                order.lock().expect("no test panics inside").push(from);
                drop(turn);
            }));
            settle().await;
        }
        assert_eq!(order.lock().expect("no test panics inside").len(), 0);
        drop(first);
        for task in tasks {
            task.await.expect("it does not panic");
        }
        assert_eq!(*order.lock().expect("no test panics inside"), [1, 2, 1, 1]);
        assert_eq!(running(&gate), 0);
    }

    #[tokio::test]
    async fn turns_of_those_who_left_are_not_lost() {
        let gate = Gate::with(1, 10);
        let first = gate.enter(source(1)).await.expect("it is free");
        for _ in 0..3 {
            let gate = Arc::clone(&gate);
            let leaving = tokio::spawn(async move { gate.enter(source(1)).await.map(drop) });
            settle().await;
            leaving.abort();
        }
        settle().await;
        drop(first);
        assert_eq!(running(&gate), 0);
        assert!(gate.enter(source(2)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_finds_it_full_is_refused() {
        let gate = Gate::with(1, 1);
        let _first = gate.enter(source(1)).await.expect("it is free");
        let slow = Arc::clone(&gate);
        let waiting = tokio::spawn(async move { slow.enter(source(1)).await.map(drop) });
        settle().await;
        assert_eq!(gate.enter(source(2)).await.map(drop), Err(Busy), "full");
        assert_eq!(waiting.await.expect("it does not panic"), Err(Busy), "too long");
    }
}
