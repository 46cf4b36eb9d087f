//! `/system`: how busy the host is. A plugin that knows several servers gives a new call to the one
//! with the lowest `cpu_load`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::Instant;

use super::App;
use super::plain::not_found;

/// The route.
pub fn router() -> Router<App> {
    Router::new().route("/system", get(system).fallback(not_found))
}

#[derive(Serialize)]
struct System {
    cpu_load: f64,
    backend: &'static str,
    shards: u16,
}

async fn system(State(app): State<App>) -> Json<System> {
    Json(System {
        cpu_load: app.cpu_load.get(),
        backend: app.service.facts().backend,
        shards: app.service.shard_count(),
    })
}

/// The last value of `cpu_load`; 0 until there is one.
#[derive(Clone, Debug, Default)]
pub struct CpuLoad(Arc<AtomicU64>);

impl CpuLoad {
    /// The value: always finite.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Samples `proc/stat` under `root` each second, for as long as somebody holds the value.
    pub fn watch(&self, root: PathBuf) {
        let value = Arc::downgrade(&self.0);
        let path = root.join("proc/stat");
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            let mut sampler = Sampler::default();
            loop {
                let now = ticks.tick().await;
                let Some(value) = value.upgrade() else { return };
                let Ok(stat) = std::fs::read_to_string(&path) else { continue };
                if let Some(load) = idle_ticks(&stat).and_then(|idle| sampler.sample(idle, now)) {
                    value.store(load.to_bits(), Ordering::Relaxed);
                }
            }
        });
    }
}

/// Clock ticks a second in `/proc/stat`: the kernel tells programs 100 on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Ticks that all processors together were idle since the host started.
/// Source: proc_stat(5), fourth number of the line `cpu`.
fn idle_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.split_ascii_whitespace();
    if fields.next()? != "cpu" {
        return None;
    }
    fields.nth(3)?.parse().ok()
}

/// Time that passed ÷ time that processors were idle: 0.125 with eight idle processors, 1 with one.
#[derive(Debug, Default)]
struct Sampler {
    last: Option<(u64, Instant)>,
}

impl Sampler {
    /// The load since the last sample. A processor that was never idle counts as idle for one tick,
    /// the least that could be seen, so that the value is finite. `None` for the first sample, and
    /// when the kernel's counter went back, as it may when a processor is taken away.
    fn sample(&mut self, idle: u64, now: Instant) -> Option<f64> {
        let (last_idle, last) = self.last.replace((idle, now))?;
        let idle_s = idle.checked_sub(last_idle)?.max(1) as f64 / TICKS_PER_SECOND;
        Some(now.saturating_duration_since(last).as_secs_f64() / idle_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_load_is_one_over_the_idle_processors() {
        let mut sampler = Sampler::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(sampler.sample(1_000, at(0)), None, "the first sample says nothing");
        assert_eq!(sampler.sample(1_800, at(1)), Some(0.125), "eight idle processors");
        assert_eq!(sampler.sample(2_000, at(3)), Some(1.0), "one");
        assert_eq!(sampler.sample(2_050, at(4)), Some(2.0), "half of one");
        assert_eq!(sampler.sample(2_050, at(5)), Some(100.0), "none: large, but a number");
        assert_eq!(sampler.sample(1_000, at(6)), None, "the counter went back");
        assert_eq!(sampler.sample(1_100, at(7)), Some(1.0));
    }

    #[test]
    fn the_idle_time_of_all_processors_is_read() {
        let stat = "cpu  10 20 30 4000 50 0 6 0 0 0\ncpu0 10 20 30 4000 50 0 6 0 0 0\nintr 5\n";
        assert_eq!(idle_ticks(stat), Some(4000));
        for bad in ["", "cpu", "cpu 1 2 3", "cpu 1 2 3 x", "cpu0 1 2 3 4"] {
            assert_eq!(idle_ticks(bad), None, "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn this_host_has_a_load_from_the_second_sample_on() {
        let load = CpuLoad::default();
        load.watch(PathBuf::from("/"));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(load.get(), 0.0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(load.get() > 0.0 && load.get().is_finite());
    }
}
