// SPDX-License-Identifier: MIT OR Apache-2.0

//! The conductor: mounts, then who holds what has no name, then the files of each
//! filesystem and a second look at the holders, then the ledger, then the report.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;

use crate::commands::assemble;
use crate::commands::count::{Counted, count, sync_out};
use crate::commands::error::Result;
use crate::commands::filesystem_run::FilesystemRun;
use crate::commands::request::Request;
use crate::commands::survey;
use crate::filesystems::{self, Mounted};
use crate::holders::Scan;
use crate::model::bytes::Bytes;
use crate::model::limits::Limits;
use crate::model::monitor::Monitor;
use crate::model::usage::Tally;
use crate::mounts::locate::{self, Target};
use crate::mounts::{Mount, Mounts};
use crate::report::Report;
use crate::statvfs::{self as probe, Sampler, Samples};
use crate::sys::batch::{self, Batch};

/// What one look at a filesystem gave.
struct Observed {
    samples: std::result::Result<Samples, Errno>,
    counted: Counted,
    scan: Scan,
    /// What lost its name during the walk: it may have been counted with a name before.
    unlinked_meanwhile: Bytes,
    /// What has names by its own count of them, to which none leads.
    lost: Tally,
    /// Whether that was the same the time before: else a name may have been on its way from one directory to
    /// another.
    is_confirmed: bool,
}

/// How often a filesystem that does not keep still is looked at.
const LOOKS: usize = 3;

/// Up to when looking once more costs nobody any patience.
const SOON: Duration = Duration::from_millis(200);

/// Explains what was asked for. `monitor` shows how far it is and can end it early: then the report
/// says what is known by then.
pub fn explain(request: &Request, monitor: &Monitor) -> Result<Report> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let mounts = locate::read_mounts(filesystems::TRAITS_OF)?;
    let targets = survey::targets(request, &mounts)?;
    sync_out(&targets, request);
    let run = Run { request, mounts: &mounts, monitor };
    let looking = Instant::now();
    let all: Vec<&Target> = targets.iter().collect();
    let samplers = run.samplers(&all);
    // Read beside all else.
    let limits = limits(&targets, &samplers, request.timeout);
    let mut observed = run.look(&all, samplers)?;
    for _ in 1..LOOKS {
        let is_worth_it = looking.elapsed() < SOON || observed.iter().any(Observed::is_doubtful);
        if is_worth_it && !monitor.is_cancelled() {
            run.look_again(&all, &mut observed)?;
        }
    }
    let limits = limits.wait(monitor.patience(request.timeout)).into_iter().map(Option::flatten);
    let seen = targets.into_iter().zip(observed).zip(limits);
    let seen: Vec<FilesystemRun> = seen
        .map(|((target, observed), limits)| observed.into_run(target, limits.unwrap_or_default()))
        .collect();
    let times = assemble::Times { started, elapsed: clock.elapsed(), interrupted: monitor.is_cancelled() };
    Ok(assemble::report(&times, &seen, request.timeout))
}

/// What all looks have in common.
struct Run<'a> {
    request: &'a Request,
    mounts: &'a Mounts,
    monitor: &'a Monitor,
}

impl Run<'_> {
    /// Begins to sample the use of each filesystem, if it answers.
    fn samplers(&self, targets: &[&Target]) -> Vec<std::result::Result<Sampler, Errno>> {
        probe::start(targets.iter().map(|target| target.root.clone()).collect(), self.request.timeout)
    }

    /// Who holds what, what is there, and again who holds what.
    fn look(
        &self,
        targets: &[&Target],
        samplers: Vec<std::result::Result<Sampler, Errno>>,
    ) -> Result<Vec<Observed>> {
        for sampler in samplers.iter().flatten() {
            self.monitor.expect(sampler.used());
        }
        let answering = targets.iter().zip(&samplers);
        let answering: Vec<Option<&Target>> =
            answering.map(|(target, sampler)| sampler.is_ok().then_some(*target)).collect();
        let scan = || survey::holders(&answering, self.mounts, self.request);
        let scanning = Instant::now();
        let before = scan()?;
        let (scanning, counting) = (scanning.elapsed(), Instant::now());
        let count = |(target, sampler): (&&Target, &std::result::Result<Sampler, Errno>)| match sampler {
            Ok(_) => count(target, self.request, self.monitor),
            Err(errno) => Ok(Counted::none(*errno)),
        };
        let counted: Vec<Counted> = targets.iter().zip(&samplers).map(count).collect::<Result<_>>()?;
        // After a count that was shorter than a scan, another scan would make nothing more exact.
        let is_worth_it = counting.elapsed() > scanning && !self.monitor.is_cancelled();
        let after = if is_worth_it { Some(scan()?) } else { None };
        let scans = latest(before, after).into_iter();
        let finished = probe::finish(samplers, self.monitor.patience(self.request.timeout)).into_iter();
        let observed = finished.zip(counted).zip(scans);
        Ok(observed.map(|((samples, counted), scan)| Observed::new(samples, counted, scan)).collect())
    }

    /// Looks once more at what did not keep still, and keeps the quieter of two looks.
    fn look_again(&self, targets: &[&Target], observed: &mut [Observed]) -> Result<()> {
        let (busy, before): (Vec<&Target>, Vec<&mut Observed>) =
            targets.iter().zip(observed).filter(|(_, observed)| observed.moved() > Bytes::ZERO).unzip();
        if busy.is_empty() {
            return Ok(());
        }
        for (before, mut again) in before.into_iter().zip(self.look(&busy, self.samplers(&busy))?) {
            again.is_confirmed = again.lost == before.lost;
            if again.moved() < before.moved() {
                *before = again;
            }
        }
        Ok(())
    }
}

/// Begins to read what limits each filesystem that answers, besides its bytes.
fn limits(
    targets: &[Target],
    samplers: &[std::result::Result<Sampler, Errno>],
    timeout: Duration,
) -> Batch<Option<Limits>> {
    let answering = targets.iter().zip(samplers).map(|(target, sampler)| {
        let root = target.root.as_ref().ok().filter(|_| sampler.is_ok());
        root.map(|root| (target.mount.clone(), Arc::clone(root)))
    });
    batch::begin(answering.collect(), move |answering: Option<(Mount, Arc<OwnedFd>)>| {
        let (mount, root) = answering?;
        Some(Mounted { mount: &mount, root: root.as_fd() }.limits(timeout))
    })
}

/// The later scan of each filesystem, if there is one, with the bytes that are only in it.
fn latest(before: Vec<Scan>, after: Option<Vec<Scan>>) -> Vec<(Scan, Bytes)> {
    match after {
        None => before.into_iter().map(|scan| (scan, Bytes::ZERO)).collect(),
        Some(after) => before
            .into_iter()
            .zip(after)
            .map(|(before, after)| {
                let new = after.held_since(&before);
                (after, new)
            })
            .collect(),
    }
}

impl Observed {
    fn new(
        samples: std::result::Result<Samples, Errno>,
        counted: Counted,
        (scan, unlinked_meanwhile): (Scan, Bytes),
    ) -> Self {
        let lost = counted.without_a_way().unwrap_or_default();
        Self { samples, counted, scan, unlinked_meanwhile, lost, is_confirmed: false }
    }

    /// How far that may be from one moment's truth: what moved while it was read.
    fn moved(&self) -> Bytes {
        let swing = self.samples.as_ref().map_or(Bytes::ZERO, Samples::swing);
        let census = self.counted.census.as_ref();
        let missed = if self.is_confirmed { Bytes::ZERO } else { self.lost.bytes };
        swing + self.unlinked_meanwhile + census.map_or(Bytes::ZERO, |census| census.moved) + missed
    }

    /// Whether nothing moved, and yet something is missing.
    fn is_doubtful(&self) -> bool {
        self.lost.bytes > Bytes::ZERO && !self.is_confirmed && self.moved() == self.lost.bytes
    }

    /// What is kept of it for the report.
    fn into_run(self, target: Target, limits: Limits) -> FilesystemRun {
        let moved = self.moved();
        let Self { samples, counted, scan, lost, is_confirmed, .. } = self;
        let lost = if is_confirmed { lost } else { Tally::default() };
        FilesystemRun { target, samples, counted, scan, limits, moved, lost }
    }
}
