//! A worker: a fleet on one thread that does what a controller says; within the controller's process or on another host.

mod daemon;
mod link;
pub mod protocol;

use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use sluice_engine::clock;

pub use daemon::{WorkerArguments, serve_controllers};
pub use link::{Link, connect, spawn};

use crate::fleet::Fleet;
use protocol::{Order, Report};

/// How often orders are looked for.
const TURN: Duration = Duration::from_millis(10);
const TICK: Duration = Duration::from_millis(500);
/// Silence after which no packet is under way any more.
const SILENCE: Duration = Duration::from_millis(300);
/// Delay and retransmission add to it.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Follows orders until the controller is gone or everybody has left.
pub fn work(orders: &Receiver<Order>, reports: &Sender<Report>) {
    let Ok(Order::Prepare(assignment)) = orders.recv() else { return };
    let mut fleet = match Fleet::new(*assignment) {
        Ok(fleet) => fleet,
        Err(error) => {
            let _ = reports.send(Report::Failed(error));
            return;
        }
    };
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let _ = reports.send(Report::Prepared { host: host.unwrap_or_default() });
    let mut next_tick = clock::now();
    // The last of the media, and since when it is waited for.
    let mut draining = None;
    loop {
        match orders.try_recv() {
            Ok(Order::Leave) => {
                let left = fleet.leave();
                if left > 0 {
                    let text = format!("{left} sessions could not be ended");
                    let _ = reports.send(Report::Warning(text));
                }
                let _ = reports.send(Report::Left);
                return;
            }
            Ok(order) => {
                if matches!(order, Order::Publish(false)) {
                    draining = Some(clock::now());
                }
                if let Some(answer) = follow(&mut fleet, order)
                    && reports.send(answer).is_err()
                {
                    return;
                }
                continue;
            }
            Err(TryRecvError::Disconnected) => {
                fleet.leave();
                return;
            }
            Err(TryRecvError::Empty) => {}
        }
        let now = clock::now();
        if next_tick <= now {
            next_tick = now + TICK;
            if reports.send(Report::Tick(fleet.progress())).is_err() {
                fleet.leave();
                return;
            }
        }
        if let Some(since) = draining {
            let silent =
                fleet.has_sent_all() && now.since(fleet.last_media().max(since)) >= SILENCE;
            if silent || now.since(since) >= DRAIN_MAX {
                draining = None;
                let _ = reports.send(Report::Quiet);
            }
        }
        fleet.turn(now + TURN);
    }
}

fn follow(fleet: &mut Fleet, order: Order) -> Option<Report> {
    match order {
        Order::Clock { sent } => return Some(Report::Clock { sent, worker: fleet.own_ntp().0 }),
        Order::SetClock { ahead_ns } => fleet.set_clock(ahead_ns),
        Order::Join => fleet.begin_joining(),
        Order::Publish(on) => fleet.publish(on),
        Order::OpenWindow => fleet.open_window(),
        Order::CloseWindow => return Some(Report::Window(Box::new(fleet.close_window()))),
        Order::Prepare(_) | Order::Leave => {}
    }
    None
}
