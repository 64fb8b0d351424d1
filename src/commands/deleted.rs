//! The holders alone, at once and without any walk: what `lsof +L1` is used for.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::commands::assemble;
use crate::commands::error::Result;
use crate::commands::explain::Request;
use crate::commands::survey;
use crate::filesystems;
use crate::model::monitor::Monitor;
use crate::mounts::locate;
use crate::report::Deleted;

/// Lists the inodes without a name that processes hold on the filesystems asked for, or on every local
/// one if none is. With an `interval` it looks twice, that far apart, to see what grows; `monitor` can
/// cut the wait short.
pub fn deleted(request: &Request, interval: Option<Duration>, monitor: &Monitor) -> Result<Deleted> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let mounts = locate::read_mounts(filesystems::TRAITS_OF)?;
    let request = Request { all: request.all || request.paths.is_empty(), ..request.clone() };
    let targets = survey::targets(&request, &mounts)?;
    let all: Vec<_> = targets.iter().map(Some).collect();
    let scan = || survey::holders(&all, &mounts, &request);
    let earlier = match interval {
        Some(interval) => {
            let earlier = scan()?;
            Some((earlier, wait(interval, monitor)))
        }
        None => None,
    };
    let scans = scan()?;
    let times = assemble::Times { started, elapsed: clock.elapsed(), interrupted: monitor.is_cancelled() };
    let earlier = earlier.as_ref().map(|(scans, waited)| (scans.as_slice(), *waited));
    Ok(assemble::deleted(&times, &targets, &scans, earlier, request.timeout))
}

/// Waits for `interval`, or until the run is cancelled; returns how long that was.
fn wait(interval: Duration, monitor: &Monitor) -> Duration {
    /// Soon enough for whoever has pressed Ctrl-C.
    const STEP: Duration = Duration::from_millis(20);
    let clock = Instant::now();
    while clock.elapsed() < interval && !monitor.is_cancelled() {
        thread::sleep(STEP.min(interval.saturating_sub(clock.elapsed())));
    }
    clock.elapsed()
}
