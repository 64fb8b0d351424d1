//! The conductor: mounts, then who holds what has no name, then the files of each
//! filesystem and a second look at the holders, then the ledger, then the report.

use std::num::NonZero;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use crate::commands::assemble;
use crate::commands::error::{Error, Result};
use crate::commands::survey;
use crate::filesystems::{self, Internal, Mounted, Unable, errors};
use crate::holders::Scan;
use crate::model::bytes::Bytes;
use crate::model::limits::Limits;
use crate::model::monitor::Monitor;
use crate::model::skips::{Kind, Skip};
use crate::model::usage::{Census, MountPoint, Options, Tally};
use crate::mounts::Mounts;
use crate::mounts::locate::{self, Target};
use crate::mounts::whole::whole;
use crate::report::Report;
use crate::statvfs::{Sampler, Samples};
use crate::sys::detached::{Deadline, Pending, begin};
use crate::walk;

/// What to explain, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The filesystems that hold these paths, each once.
    pub paths: Vec<PathBuf>,
    /// Every local filesystem, besides those of the paths.
    pub all: bool,
    /// A fixed number of threads, instead of what suits the machine.
    pub threads: Option<NonZero<usize>>,
    /// How long to wait for an answer from a filesystem that may be dead.
    pub timeout: Duration,
    /// How many of the largest directories to report.
    pub directories: usize,
    /// How deep below the root of the filesystem those may be; and names beneath mount points below
    /// those, one level if that is not said.
    pub depth: Option<usize>,
    /// How visible files are counted.
    pub method: Method,
    /// Whether to list what mount points hide. A path that is a mount point then stands for what it hides,
    /// as well as for what those on it hide.
    pub hidden: bool,
    /// How many of the largest names to list beneath each mount point, and outside of what is mounted.
    pub names: usize,
}

/// How visible files are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// From the inode tables where that can be done, else by walking.
    #[default]
    Auto,
    /// By walking through all names.
    Walk,
    /// From the inode tables, or not at all.
    Table,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            paths: vec![PathBuf::from(".")],
            all: false,
            threads: None,
            timeout: Duration::from_secs(5),
            directories: 10,
            depth: None,
            method: Method::Auto,
            hidden: false,
            names: 10,
        }
    }
}

/// What was counted of one filesystem, and how.
pub(crate) struct Counted {
    pub(crate) census: std::result::Result<Census, Errno>,
    /// What the filesystem needs besides, where that can be read.
    pub(crate) internal: Option<Internal>,
    /// Whether it was read from the inode tables; where it might have been and was not, why.
    pub(crate) from_tables: bool,
    pub(crate) unable: Option<Unable>,
    damage: Damage,
}

/// What is known of damage besides what could not be read.
#[derive(Default)]
struct Damage {
    /// The inode tables or the directories make no sense.
    tables: bool,
    /// What the kernel has met meanwhile.
    met: errors::Met,
}

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
    is_lost: bool,
}

/// One filesystem at the end of the run.
pub(crate) struct Seen {
    pub(crate) target: Target,
    pub(crate) samples: std::result::Result<Samples, Errno>,
    pub(crate) counted: Counted,
    pub(crate) scan: Scan,
    pub(crate) limits: Limits,
    /// How far it may be from one moment's truth.
    pub(crate) moved: Bytes,
    /// What no name leads to, though it has one by its own count: a crash or damage took the directory away.
    pub(crate) lost: Tally,
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
    for target in &targets {
        sync_out(target, request);
    }
    let run = Run { request, mounts: &mounts, monitor };
    let looking = Instant::now();
    let all: Vec<&Target> = targets.iter().collect();
    let samplers = run.samplers(&all);
    // Read beside all else.
    let limit = |(target, sampler): (&Target, &std::result::Result<Sampler, Errno>)| {
        sampler.as_ref().ok().and_then(|_| limit(target, request.timeout))
    };
    let limits: Vec<Option<Pending<Limits>>> = targets.iter().zip(&samplers).map(limit).collect();
    let mut observed = run.look(&all, samplers)?;
    for _ in 1..LOOKS {
        let is_worth_it = looking.elapsed() < SOON || observed.iter().any(Observed::is_doubtful);
        if is_worth_it && !monitor.is_cancelled() {
            run.look_again(&all, &mut observed)?;
        }
    }
    let deadline = Deadline::after(request.timeout);
    let limits = limits.into_iter().map(|limits| limits.and_then(|limits| limits.wait(deadline.left())));
    let seen = targets.into_iter().zip(observed).zip(limits);
    let seen: Vec<Seen> = seen
        .map(|((target, observed), limits)| Seen::new(target, observed, limits.unwrap_or_default()))
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
        targets.iter().map(|target| sample(target, self.request.timeout)).collect()
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
        let after = if counting.elapsed() > scanning { Some(scan()?) } else { None };
        let scans = latest(before, after).into_iter();
        let observed = samplers.into_iter().zip(counted).zip(scans);
        Ok(observed.map(|((sampler, counted), scan)| Observed::new(sampler, counted, scan)).collect())
    }

    /// Looks once more at what did not keep still, and keeps the quieter of two looks.
    fn look_again(&self, targets: &[&Target], observed: &mut [Observed]) -> Result<()> {
        let (busy, before): (Vec<&Target>, Vec<&mut Observed>) =
            targets.iter().zip(observed).filter(|(_, observed)| observed.moved() > Bytes::ZERO).unzip();
        if busy.is_empty() {
            return Ok(());
        }
        for (before, mut again) in before.into_iter().zip(self.look(&busy, self.samplers(&busy))?) {
            again.is_lost = again.lost == before.lost;
            if again.moved() < before.moved() {
                *before = again;
            }
        }
        Ok(())
    }
}

/// Begins to read what limits a filesystem besides its bytes.
fn limit(target: &Target, timeout: Duration) -> Option<Pending<Limits>> {
    let (mount, root) = (target.mount.clone(), Arc::clone(target.root.as_ref().ok()?));
    Some(begin(move || Mounted { mount: &mount, root: root.as_fd() }.limits(timeout)))
}

fn sample(target: &Target, timeout: Duration) -> std::result::Result<Sampler, Errno> {
    target.root.as_ref().map_err(|errno| *errno).and_then(|root| Sampler::start(root, timeout))
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

/// Has the filesystem write out what its own records do not have yet. Where that does not end soon, the
/// report says how much it is.
fn sync_out(target: &Target, request: &Request) {
    if request.method != Method::Walk
        && let Ok(root) = &target.root
    {
        Mounted { mount: &target.mount, root: root.as_fd() }.sync_out(request.timeout / 2);
    }
}

/// Counts what lies below the root: from below or from above. An error where only the inode tables
/// would do, and do not.
fn count(target: &Target, request: &Request, monitor: &Monitor) -> Result<Counted> {
    let covers = target.covers.iter();
    let mount_points: Vec<_> =
        covers.map(|cover| MountPoint { path: &cover.relative, listed: cover.listed }).collect();
    let Request { threads, directories, depth, names, .. } = *request;
    let watched = target.overlay.as_ref().map_or(&[][..], |overlay| &overlay.inodes);
    let options = Options { threads, directories, depth, names, watched };
    let root = match &target.root {
        Ok(root) => root.as_fd(),
        Err(errno) => return Ok(Counted::none(*errno)),
    };
    let on = Mounted { mount: &target.mount, root };
    let from_below = filesystems::Request { mount_points: &mount_points, options, monitor };
    let mut unable = None;
    if request.method != Method::Walk {
        match on.census(&from_below) {
            Ok((census, internal)) => {
                let internal = Some(internal);
                let census = Ok(census);
                return Ok(Counted { census, internal, from_tables: true, ..Counted::none(Errno::EIO) });
            }
            Err(reason) if request.method == Method::Table => {
                return Err(Error::Tables { mountpoint: target.mount.mountpoint.clone(), reason });
            }
            // There is no other way that it would be worth telling of.
            Err(Unable::Filesystem(_)) => {}
            Err(reason) => unable = Some(reason),
        }
    }
    let watch = errors::Watch::begin(on);
    let census = look(target, &mount_points, options, request.timeout, monitor);
    let internal = on.internal(&from_below);
    let is_damaged = |unable: Option<&Unable>| matches!(unable, Some(Unable::Damaged { .. }));
    let damage = Damage {
        tables: is_damaged(unable.as_ref()) || is_damaged(internal.as_ref().err()),
        met: watch.end(),
    };
    Ok(Counted { census, internal: internal.ok(), from_tables: false, unable, damage })
}

/// The view from above.
fn look(
    target: &Target,
    mount_points: &[MountPoint<'_>],
    options: Options<'_>,
    timeout: Duration,
    monitor: &Monitor,
) -> std::result::Result<Census, Errno> {
    let descriptor = target.root.as_ref().map_err(|errno| *errno)?;
    let whole = whole(&target.mount, descriptor, timeout);
    let root = walk::Root {
        descriptor,
        path: &target.mount.mountpoint,
        mount_points,
        whole: whole.as_ref().map(Option::as_ref).map_err(|errno| *errno),
        devices_lie: target.mount.is_overlay(),
    };
    walk::walk(root, options, monitor)
}

impl Counted {
    fn none(errno: Errno) -> Self {
        let damage = Damage::default();
        Self { census: Err(errno), internal: None, from_tables: false, unable: None, damage }
    }

    /// What has names by its own count of them, and was not met. `None` where not every name was looked at.
    fn without_a_way(&self) -> Option<Tally> {
        let (census, internal) = (self.census.as_ref().ok()?, self.internal.as_ref()?);
        let (hidden, outside) = (census.hidden.as_ref().ok()?, census.outside.as_ref().ok()?);
        let mut met = census.visible;
        hidden.iter().chain(outside).for_each(|part| met.add(part.tally));
        let Tally { bytes, inodes } = internal.named;
        let lost =
            Tally { bytes: bytes.saturating_sub(met.bytes), inodes: inodes.saturating_sub(met.inodes) };
        census.skips.is_empty().then_some(lost)
    }
}

impl Observed {
    fn new(
        sampler: std::result::Result<Sampler, Errno>,
        counted: Counted,
        (scan, unlinked_meanwhile): (Scan, Bytes),
    ) -> Self {
        let lost = counted.without_a_way().unwrap_or_default();
        Self {
            samples: sampler.map(Sampler::finish),
            counted,
            scan,
            unlinked_meanwhile,
            lost,
            is_lost: false,
        }
    }

    /// How far that may be from one moment's truth: what moved while it was read.
    fn moved(&self) -> Bytes {
        let swing = self.samples.as_ref().map_or(Bytes::ZERO, Samples::swing);
        let census = self.counted.census.as_ref();
        let missed = if self.is_lost { Bytes::ZERO } else { self.lost.bytes };
        swing + self.unlinked_meanwhile + census.map_or(Bytes::ZERO, |census| census.moved) + missed
    }

    /// Whether nothing moved, and yet something is missing.
    fn is_doubtful(&self) -> bool {
        self.lost.bytes > Bytes::ZERO && !self.is_lost && self.moved() == self.lost.bytes
    }
}

impl Seen {
    fn new(target: Target, observed: Observed, limits: Limits) -> Self {
        let moved = observed.moved();
        let Observed { samples, counted, scan, lost, is_lost, .. } = observed;
        let lost = if is_lost { lost } else { Tally::default() };
        Self { target, samples, counted, scan, limits, moved, lost }
    }

    /// All that could not be looked at.
    pub(crate) fn skips(&self) -> Vec<Skip> {
        let mountpoint = &self.target.mount.mountpoint;
        let samples = match &self.samples {
            Ok(samples) => (!samples.answered).then_some(Errno::ETIMEDOUT),
            Err(errno) => Some(*errno),
        };
        let mut skips: Vec<Skip> =
            samples.map(|errno| Skip::new(Kind::Filesystem, mountpoint, errno)).into_iter().collect();
        if self.samples.is_err() {
            return skips;
        }
        match &self.counted.census {
            Ok(walk) => {
                // An overlay is walked itself only where the filesystem below it cannot be seen.
                let partial = self.target.mount.root != Path::new("/") || self.target.mount.is_overlay();
                match &walk.outside {
                    Err(errno) => skips.push(Skip::new(Kind::Outside, mountpoint, *errno)),
                    Ok(None) if partial => skips.push(Skip::new(Kind::Outside, mountpoint, None)),
                    Ok(_) => {}
                }
                if let Err(errno) = &walk.hidden {
                    let covers = self.target.covers.iter();
                    skips.extend(covers.map(|cover| Skip::new(Kind::Mount, &cover.mountpoint, *errno)));
                }
                skips.extend(walk.skips.iter().cloned());
            }
            Err(errno) => skips.push(Skip::new(Kind::Directory, mountpoint, *errno)),
        }
        skips.extend(self.scan.skips.iter().cloned());
        self.add_damage(&mut skips);
        skips
    }

    /// Damage that is not among them yet: what is known by its number only, or, where nothing at all is known
    /// of where it is, that there is some.
    fn add_damage(&self, skips: &mut Vec<Skip>) {
        let mountpoint = &self.target.mount.mountpoint;
        let known: FxHashSet<u64> = skips.iter().filter_map(|skip| skip.inode).collect();
        let damaged = self.counted.internal.iter().flat_map(|internal| &internal.damaged);
        let damaged = damaged.filter(|damaged| !known.contains(&damaged.inode));
        skips.extend(damaged.map(|damaged| damaged.skip(mountpoint)));
        if skips.iter().any(Skip::is_damage) {
            return;
        }
        let Damage { tables, met } = &self.counted.damage;
        let skip = |kind| Skip::new(kind, mountpoint, Errno::EUCLEAN);
        skips.extend(met.inodes.iter().map(|inode| skip(Kind::LeftOut).of_inode(*inode)));
        if met.inodes.is_empty() && met.any {
            skips.push(skip(Kind::LeftOut));
        } else if *tables && !met.any {
            skips.push(skip(Kind::InodeTables));
        }
    }
}
