//! The view from above: every name below a root, counted as `du -sx --block-size=1`
//! counts, in parallel, through directory descriptors.
//!
//! Nearly all the time goes into the system calls (one statx(2) a name, four calls a directory),
//! so the design is about making no more of them: names are looked up relative to their
//! directory's descriptor, a directory is opened before it is looked at, and one with very many
//! entries is handed on buffer by buffer. What is read stays with the thread that reads it
//! (`census::Records`) and is put together at the end.

mod covers;
mod directory;
mod queue;
mod worker;

use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::model::bytes::Bytes;
use crate::model::monitor::Monitor;
use crate::model::skips::Skip;
use crate::model::usage::{self as census, Census, Listing, MountPoint, Options, Side, Sides};
use crate::sys::mount::clone_detached;
use crate::sys::stat::{Stat, statx_fd};
use covers::Covers;
use directory::Budget;
use queue::{Queue, Waiting};
use worker::{Finished, Work, Worker};

/// Where to walk.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    /// The root of a mount, opened with `O_PATH`.
    pub descriptor: &'a OwnedFd,
    /// Its absolute path, for the names of what is skipped.
    pub path: &'a Path,
    /// The mount points on it.
    pub mount_points: &'a [MountPoint<'a>],
    /// The root of the whole filesystem, on a private mount, where the mount shows a part of it only and
    /// the rest is to be walked, too; or why there is no way to it.
    pub whole: Result<Option<&'a OwnedFd>, Errno>,
    /// Whether files of one mount report several devices, as on overlayfs.
    pub devices_lie: bool,
}

/// What all threads share.
struct Shared<'a> {
    queue: Queue<Work>,
    covers: Covers,
    boundary: Boundary,
    /// A clone of the mount, if anything is mounted on it; or why there is none.
    beneath: Result<Option<OwnedFd>, Errno>,
    listing: Listing,
    /// How many names are listed at most.
    names: usize,
    budget: Arc<Budget>,
    directories: AtomicU32,
    monitor: &'a Monitor,
}

impl Shared<'_> {
    /// A new directory's number.
    fn next_id(&self) -> census::Id {
        self.directories.fetch_add(1, Ordering::Relaxed)
    }
}

/// Where the filesystem ends.
#[derive(Clone, Copy, Debug)]
struct Boundary {
    root: Stat,
    /// The numbers, as mounts, of the private ones on which the rest is walked.
    clones: [Option<u64>; 2],
    devices_lie: bool,
}

/// What lies on the other side of a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Territory {
    Ours,
    /// What the mount shows, met on the way through the whole filesystem.
    Shown,
    /// Another mount, come since mountinfo was read.
    OtherMount,
    /// The same mount, another device: a subvolume.
    Subvolume,
}

impl Boundary {
    /// What something found on that side belongs to.
    fn territory(&self, side: Side, stat: &Stat) -> Territory {
        let shown = side == Side::Outside && (self.root.inode, self.root.dev) == (stat.inode, stat.dev);
        if shown {
            Territory::Shown
        } else if self.root.mount != stat.mount && !self.clones.contains(&stat.mount) {
            Territory::OtherMount
        } else if self.root.dev != stat.dev && !self.devices_lie {
            Territory::Subvolume
        } else {
            Territory::Ours
        }
    }
}

/// Walks all below `root`, and, where `root.whole` is given, all the rest of the filesystem. What mount
/// points hide is walked on a private clone of the mount, on which nothing is mounted, if there is the
/// right to make one. Not so what is visible: the kernel releases a path
/// on a detached mount under a global lock (`fs/namespace.c`, `mntput_no_expire`), which costs a tenth
/// of the walk. An error means that the root itself cannot be looked at.
pub fn walk(root: Root<'_>, options: Options<'_>, monitor: &Monitor) -> Result<Census, Errno> {
    let beneath = match root.mount_points {
        [] => Ok(None),
        _ => clone_detached(root.descriptor.as_fd()).map(Some),
    };
    let clone = beneath.as_ref().ok().and_then(Option::as_ref);
    let number = |mount: &OwnedFd| statx_fd(mount.as_fd()).ok()?.mount;
    let boundary = Boundary {
        root: statx_fd(root.descriptor.as_fd())?,
        clones: [clone.and_then(number), root.whole.ok().flatten().and_then(number)],
        devices_lie: root.devices_lie,
    };
    let work = starts(root, clone.is_some())?;
    let (threads, descriptors) = limits(options.threads);
    let shared = Shared {
        queue: Queue::new(work),
        covers: Covers::new(root.mount_points.iter().map(|point| point.path)),
        boundary,
        beneath,
        listing: Listing::new(root.mount_points, options),
        names: options.names,
        budget: Budget::new(descriptors),
        directories: AtomicU32::new(census::ROOT + 1),
        monitor,
    };
    let finished = run(&shared, threads);
    Ok(conclude(&shared, finished, root, options))
}

/// Where to start: at the root, beneath each mount point if those can be looked at, and at the root
/// of the whole filesystem.
fn starts(root: Root<'_>, beneath: bool) -> Result<Vec<Work>, Errno> {
    let again = |descriptor: &OwnedFd| descriptor.try_clone().map_err(|_| Errno::EMFILE);
    let mut starts = vec![Work::Root(again(root.descriptor)?)];
    if beneath {
        starts.extend((0..root.mount_points.len()).map(Work::Covered));
    }
    if let Ok(Some(whole)) = root.whole {
        starts.push(Work::Outside(again(whole)?));
    }
    Ok(starts)
}

/// How many threads to start with and to end with.
#[derive(Clone, Copy, Debug)]
struct Threads {
    first: usize,
    most: usize,
}

/// On a cold cache the threads wait for the disk, and a queue of requests makes it faster: most of
/// the gain comes with the first eight, on any number of cores.
const WAITING_THREADS: usize = 32;
/// Descriptors that one thread has in hand at most: a directory, its parent, two while reopening.
const IN_HAND: usize = 4;
/// Left for everything else in the process.
const RESERVED_DESCRIPTORS: usize = 16;
/// More than the depth of any tree met in practice, times the threads.
const DESCRIPTORS: usize = 4096;

/// The number of threads, and of directories kept open, that the limit on open files allows.
fn limits(fixed: Option<NonZero<usize>>) -> (Threads, usize) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    let open = std::fs::read_dir("/proc/self/fd").map_or(RESERVED_DESCRIPTORS, Iterator::count);
    let spare = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open + RESERVED_DESCRIPTORS);
    let allowed = (spare / (2 * IN_HAND)).max(1);
    let most = fixed.map_or(WAITING_THREADS.max(cores), NonZero::get).min(allowed);
    let first = fixed.map_or(cores, NonZero::get).min(allowed);
    (Threads { first, most }, spare.saturating_sub(most * IN_HAND).clamp(1, DESCRIPTORS))
}

/// How often to look whether the threads wait for the disk.
const TICK: Duration = Duration::from_millis(5);
/// The share of the cores' time below which they do.
const BUSY_PERCENT: u128 = 70;

/// Runs the workers until all is read.
fn run(shared: &Shared<'_>, threads: Threads) -> Vec<Finished> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let mut handles = Vec::new();
        let mut start = |count: usize| {
            for _ in 0..count {
                shared.queue.join();
                let worker = thread::Builder::new().name("walk".into());
                match worker.spawn_scoped(scope, || Worker::new(shared).run()) {
                    Ok(handle) => handles.push(handle),
                    Err(_) => shared.queue.leave(),
                }
            }
            handles.len()
        };
        let mut running = start(threads.first);
        let mut finished = Vec::new();
        if running == 0 {
            // No thread to be had (a limit on processes): then here.
            shared.queue.join();
            finished.push(Worker::new(shared).run());
        }
        let (mut clock, mut spent) = (Instant::now(), cpu_time());
        loop {
            let waiting = shared.queue.settle(TICK);
            if waiting == Waiting::All {
                break;
            }
            let (elapsed, used) = (clock.elapsed(), cpu_time().saturating_sub(spent));
            (clock, spent) = (clock + elapsed, spent + used);
            let whole = elapsed.as_micros() * cores.min(running) as u128;
            if waiting == Waiting::None
                && running < threads.most
                && used.as_micros() * 100 < whole * BUSY_PERCENT
            {
                running = start(running.min(threads.most - running));
            }
        }
        finished.extend(handles.into_iter().filter_map(|handle| handle.join().ok()));
        finished
    })
}

/// The processor time of this process so far.
fn cpu_time() -> Duration {
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    usage.map_or(Duration::ZERO, |usage| {
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    })
}

/// Puts together what the workers have read.
fn conclude(shared: &Shared<'_>, finished: Vec<Finished>, root: Root<'_>, options: Options<'_>) -> Census {
    let (records, skipped): (Vec<_>, Vec<_>) = finished.into_iter().map(|f| (f.records, f.skips)).unzip();
    let tree = census::Tree::new(records, shared.directories.load(Ordering::Relaxed));
    let Sides { visible, hidden, outside } = tree.sides(root.mount_points.len(), &shared.listing);
    let mut skips: Vec<Skip> = skipped
        .into_iter()
        .flatten()
        .map(|skipped| {
            let directory = skipped.directory as usize;
            // No path leads to what lies outside: it is named from the filesystem's root.
            let base = if tree.side(directory) == Side::Outside { Path::new("/") } else { root.path };
            let mut path = base.join(tree.path(directory));
            if let Some(name) = skipped.name {
                path.push(name);
            }
            Skip { inode: skipped.inode, ..Skip::new(skipped.kind, path, skipped.errno) }
        })
        .collect();
    skips.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    skips.dedup();
    Census {
        visible,
        hidden: shared.beneath.as_ref().map(|_| hidden).map_err(|errno| *errno),
        outside: root.whole.map(|whole| whole.map(|_| outside)),
        directories: tree.largest(options.directories, options.depth),
        watched: tree.below(options.watched),
        longest_directory: tree.longest(),
        skips,
        moved: Bytes::ZERO,
    }
}
