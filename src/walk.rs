// SPDX-License-Identifier: MIT OR Apache-2.0

//! The view from above: every name below a root, counted as `du -sx --block-size=1`
//! counts, in parallel, through directory descriptors.
//!
//! Nearly all the time goes into the system calls (one statx(2) a name, four calls a directory),
//! so the design is about making no more of them: names are looked up relative to their
//! directory's descriptor, a directory is opened before it is looked at, and one with very many
//! entries is handed on buffer by buffer. What is read stays with the thread that reads it
//! (`census::Records`) and is put together at the end.

mod budget;
mod covers;
mod crew;
mod directory;
mod notes;
mod open;
mod queue;
mod worker;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use crate::model::bytes::Bytes;
use crate::model::monitor::Monitor;
use crate::model::skips::Skip;
use crate::model::usage::{self as census, Census, Listing, MountPoint, Options, Side, Sides};
use crate::sys::mount::clone_detached;
use crate::sys::stat::{Stat, statx_fd};
use budget::Budget;
use covers::Covers;
use notes::Left;
use open::Opener;
use queue::Queue;
use worker::Work;

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
struct Shared {
    queue: Queue<Work>,
    covers: Covers,
    boundary: Boundary,
    opener: Opener,
    /// A clone of the mount, on which nothing is mounted; or why there is none.
    clone: Result<OwnedFd, Errno>,
    listing: Listing,
    /// How many names are listed at most.
    names: usize,
    budget: Arc<Budget>,
    directories: AtomicU32,
    monitor: Monitor,
}

impl Shared {
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
    /// Another mount, which has come since mountinfo was read.
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
///
/// What does not answer within `timeout` is left out, and so is what would have been found there.
pub fn walk(
    root: Root<'_>,
    options: Options<'_>,
    timeout: Duration,
    monitor: &Monitor,
) -> Result<Census, Errno> {
    let clone = clone_detached(root.descriptor.as_fd());
    let number = |mount: &OwnedFd| statx_fd(mount.as_fd()).ok()?.mount;
    let boundary = Boundary {
        root: statx_fd(root.descriptor.as_fd())?,
        clones: [clone.as_ref().ok().and_then(number), root.whole.ok().flatten().and_then(number)],
        devices_lie: root.devices_lie,
    };
    let start = root.descriptor.try_clone().map_err(|_| Errno::EMFILE)?;
    let (threads, descriptors) = crew::limits(options.threads, start.as_fd());
    let shared = Arc::new(Shared {
        queue: Queue::new(starts(start, root, clone.is_ok())?),
        covers: Covers::new(root.mount_points.iter().map(|point| point.path)),
        boundary,
        opener: Opener::new(root.descriptor.as_fd()),
        clone,
        listing: Listing::new(root.mount_points, options),
        names: options.names,
        budget: Budget::new(descriptors),
        directories: AtomicU32::new(census::ROOT + 1),
        monitor: monitor.clone(),
    });
    let left = crew::run(&shared, threads, timeout);
    Ok(conclude(&shared, left, root, options))
}

/// Where to start: at the root, beneath each mount point if those can be looked at, and at the root
/// of the whole filesystem.
fn starts(start: OwnedFd, root: Root<'_>, beneath: bool) -> Result<Vec<Work>, Errno> {
    let mut starts = vec![Work::Root(start)];
    if beneath {
        starts.extend((0..root.mount_points.len()).map(Work::Covered));
    }
    if let Ok(Some(whole)) = root.whole {
        starts.push(Work::Outside(whole.try_clone().map_err(|_| Errno::EMFILE)?));
    }
    Ok(starts)
}

/// Puts together what the workers have read.
fn conclude(shared: &Shared, left: Vec<Left>, root: Root<'_>, options: Options<'_>) -> Census {
    let (records, skipped): (Vec<_>, Vec<_>) =
        left.into_iter().map(|left| (left.records, left.skips)).unzip();
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
        hidden: match &shared.clone {
            Err(errno) if !root.mount_points.is_empty() => Err(*errno),
            _ => Ok(hidden),
        },
        outside: root.whole.map(|whole| whole.map(|_| outside)),
        directories: tree.largest(options.directories, options.depth),
        watched: tree.below(options.watched),
        longest_directory: tree.longest(),
        skips,
        moved: Bytes::ZERO,
    }
}
