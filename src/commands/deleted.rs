// SPDX-License-Identifier: MIT OR Apache-2.0

//! The holders alone, at once and without any walk: what `lsof +L1` is used for.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::commands::assemble;
use crate::commands::error::Result;
use crate::commands::request;
use crate::commands::survey;
use crate::filesystems;
use crate::model::group_by::GroupBy;
use crate::model::monitor::Monitor;
use crate::mounts::locate;
use crate::report::Deleted;

/// What to list, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The filesystems: every local one if no path is given.
    pub on: request::Request,
    /// With an interval it looks twice, that far apart, to see what grows.
    pub interval: Option<Duration>,
    /// Whose files to add up, if any.
    pub group_by: Option<GroupBy>,
}

/// Lists the inodes without a name that are held on the filesystems asked for. `monitor` can cut the wait
/// between two looks short.
pub fn deleted(request: &Request, monitor: &Monitor) -> Result<Deleted> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let mounts = locate::read_mounts(filesystems::TRAITS_OF)?;
    let Request { on, interval, group_by } = request;
    let on = request::Request { all: on.all || on.paths.is_empty(), ..on.clone() };
    let targets = survey::targets(&on, &mounts)?;
    let all: Vec<_> = targets.iter().map(Some).collect();
    let scan = || survey::holders(&all, &mounts, &on);
    let earlier = match *interval {
        Some(interval) => {
            let earlier = scan()?;
            Some((earlier, wait(interval, monitor)))
        }
        None => None,
    };
    let scans = scan()?;
    let times = assemble::Times { started, elapsed: clock.elapsed(), interrupted: monitor.is_cancelled() };
    let earlier = earlier.as_ref().map(|(scans, waited)| (scans.as_slice(), *waited));
    Ok(assemble::deleted(&times, &targets, &scans, earlier, *group_by, on.timeout))
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
