//! The conductor: mounts, then the views of each filesystem, then who holds what
//! has no name, then the ledger, then the report.

mod assemble;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::holders::{self, Places, Scan};
use crate::monitor::Monitor;
use crate::mounts::locate::{self, Root, Target};
use crate::mounts::{Cover, Mounts};
use crate::probe::{Sampler, Samples};
use crate::report::Report;
use crate::skip::{Kind, Skip};
use crate::sys::stat::statx_fd;
use crate::walk::{self, Walk};

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
    /// How deep below the root of the filesystem those may be.
    pub depth: Option<usize>,
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
        }
    }
}

/// Where processes are listed.
const PROC: &str = "/proc";

/// One filesystem on its way through the run.
struct View {
    target: Target,
    /// Samples its use, if it answers.
    sampler: std::result::Result<Sampler, Errno>,
    walk: std::result::Result<Walk, Errno>,
}

/// One filesystem at the end of the run.
struct Seen {
    target: Target,
    samples: std::result::Result<Samples, Errno>,
    walk: std::result::Result<Walk, Errno>,
    scan: Scan,
}

/// Explains what was asked for. `monitor` shows how far it is and can end it early: then the report
/// says what is known by then.
pub fn explain(request: &Request, monitor: &Monitor) -> Result<Report> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let mounts = locate::read_mounts()?;
    let mut views: Vec<View> = targets(request, &mounts)?
        .into_iter()
        .map(|target| View { sampler: sample(&target, request.timeout), target, walk: Err(Errno::ECANCELED) })
        .collect();
    for sampler in views.iter().flat_map(|view| &view.sampler) {
        monitor.expect(sampler.used());
    }
    for view in &mut views {
        view.walk =
            view.sampler.as_ref().map_err(|errno| *errno).and_then(|_| look(&view.target, request, monitor));
    }
    let scans = scan(&views, &mounts, request)?;
    let seen: Vec<Seen> = views
        .into_iter()
        .zip(scans)
        .map(|(view, scan)| Seen {
            target: view.target,
            samples: view.sampler.map(Sampler::finish),
            walk: view.walk,
            scan,
        })
        .collect();
    let run = assemble::Run {
        started,
        finished: SystemTime::now(),
        elapsed: clock.elapsed(),
        interrupted: monitor.is_cancelled(),
    };
    Ok(assemble::report(&run, &seen, Path::new(PROC), request.timeout))
}

/// The filesystems asked for, each once.
fn targets(request: &Request, mounts: &Mounts) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut add = |target: Target| {
        if !targets.iter().any(|other| other.mount.id == target.mount.id) {
            targets.push(target);
        }
    };
    for path in &request.paths {
        add(locate::holding(path, mounts, request.timeout)?);
    }
    if request.all {
        locate::all_local(mounts, request.timeout).into_iter().for_each(add);
    }
    Ok(targets)
}

fn sample(target: &Target, timeout: Duration) -> std::result::Result<Sampler, Errno> {
    match &target.root {
        Root::Open(root) => Sampler::start(root, timeout),
        Root::Hangs => Err(Errno::ETIMEDOUT),
        Root::Covered => Err(Errno::ENOENT),
    }
}

/// The view from above.
fn look(target: &Target, request: &Request, monitor: &Monitor) -> std::result::Result<Walk, Errno> {
    let Root::Open(descriptor) = &target.root else { return Err(Errno::ENOENT) };
    let mount_points: Vec<PathBuf> =
        target.covers.iter().map(|cover: &Cover| cover.relative.clone()).collect();
    let root = walk::Root {
        descriptor,
        path: &target.mount.mountpoint,
        mount_points: &mount_points,
        devices_lie: target.mount.is_overlay(),
    };
    let options =
        walk::Options { threads: request.threads, directories: request.directories, depth: request.depth };
    walk::walk(root, options, monitor)
}

/// Who holds what has no name, for each filesystem: one scan of /proc for all.
fn scan(views: &[View], mounts: &Mounts, request: &Request) -> Result<Vec<Scan>> {
    let mut places = Places::default();
    for (number, view) in views.iter().enumerate() {
        let Root::Open(root) = &view.target.root else { continue };
        if view.sampler.is_err() {
            continue;
        }
        places.devices.extend(statx_fd(std::os::fd::AsFd::as_fd(root)).ok().map(|stat| (stat.dev, number)));
        let same = mounts.iter().filter(|mount| mount.dev == view.target.mount.dev);
        places.mounts.extend(same.map(|mount| (mount.id, number)));
    }
    let served = mounts.iter().filter(|mount| mount.asks_a_server());
    places.served = served.map(|mount| (mount.id, mount.mountpoint.clone())).collect();
    let scanned = holders::scan(Path::new(PROC), places, request.threads, request.timeout);
    let mut scans = scanned.map_err(|errno| Error::Proc(errno.into()))?;
    scans.resize_with(views.len(), Scan::default);
    Ok(scans)
}

impl Seen {
    /// All that could not be looked at.
    fn skips(&self) -> Vec<Skip> {
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
        // An overlay is walked itself only where the filesystem below it cannot be seen.
        if self.target.mount.root != Path::new("/") || self.target.mount.is_overlay() {
            skips.push(Skip::new(Kind::Outside, mountpoint, None));
        }
        match &self.walk {
            Ok(walk) => {
                if let Err(errno) = &walk.hidden {
                    let covers = self.target.covers.iter();
                    skips.extend(covers.map(|cover| Skip::new(Kind::Mount, &cover.mountpoint, *errno)));
                }
                skips.extend(walk.skips.iter().cloned());
            }
            Err(errno) => skips.push(Skip::new(Kind::Directory, mountpoint, *errno)),
        }
        skips.extend(self.scan.skips.iter().cloned());
        skips
    }
}
