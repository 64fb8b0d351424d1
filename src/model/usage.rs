// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was read of a tree of directories, from above or from below, put together: totals for every
//! directory, each inode with several names once. Pure.

mod listing;
mod tree;

use std::num::NonZero;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

pub(crate) use self::listing::Listing;
pub(crate) use self::tree::{Id, Link, ROOT, Records, Side, Sides, Tree};
use crate::model::bytes::Bytes;
use crate::model::skips::Skip;

/// A place on the mount where something else is mounted.
#[derive(Clone, Copy, Debug)]
pub struct MountPoint<'a> {
    /// Relative to the root.
    pub path: &'a Path,
    /// Whether the largest names beneath it are to be kept.
    pub listed: bool,
}

/// How to look, and what to keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// A fixed number of threads. Without: one for each core, and more while they wait for a disk.
    pub threads: Option<NonZero<usize>>,
    /// How many of the largest directories to keep.
    pub directories: usize,
    /// How deep below the root those may be; below mount points that are listed, one level if that is
    /// not said.
    pub depth: Option<usize>,
    /// How many of the largest names to keep beneath each mount point that is listed, and outside of
    /// what the mount shows.
    pub names: usize,
    /// Inode numbers of directories to add up by themselves.
    pub watched: &'a [u64],
}

/// What was found below the root of a filesystem, and of the rest of it.
#[derive(Debug)]
pub struct Census {
    /// What `du -sx` counts.
    pub visible: Tally,
    /// What each mount point hides, or why that could not be looked at: a walk needs the right to
    /// clone the mount.
    pub hidden: Result<Vec<Part>, Errno>,
    /// What the mount does not show, where that was to be counted; or why there is no way to it.
    pub outside: Result<Option<Part>, Errno>,
    /// The largest visible directories, largest first.
    pub directories: Vec<Entry>,
    /// What is in and below the watched directories, as far as it is visible.
    pub watched: Option<Tally>,
    /// The visible directory whose list of names is the longest, relative to the root, and that list's size.
    pub longest_directory: Option<(PathBuf, Bytes)>,
    /// What could not be read, in the order of kind and path.
    pub skips: Vec<Skip>,
    /// How much was counted too little or too much because names changed meanwhile, where that is known.
    pub moved: Bytes,
}

/// Bytes and how many inodes they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

impl Tally {
    /// Counts one more inode.
    pub(crate) fn count(&mut self, allocated: u64) {
        self.bytes += Bytes(allocated);
        self.inodes = self.inodes.saturating_add(1);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// A file, or a directory with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root of the walk; what lies outside of it, to the filesystem's root.
    pub path: PathBuf,
    /// A file's own; a directory's like du: everything in it and below, and itself.
    pub tally: Tally,
}

impl Entry {
    /// The same with its path below `root`.
    pub fn below(&self, root: &Path) -> Self {
        Self { path: root.join(&self.path), tally: self.tally }
    }
}

/// What one mount point hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Where it is.
    pub mountpoint: PathBuf,
    /// All beneath it, the covered directory included.
    pub tally: Tally,
    /// The largest names beneath it, as they would be without the mount; none unless asked for.
    pub largest: Option<Vec<Entry>>,
}

/// What of the filesystem is not visible, for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// All of it.
    pub tally: Tally,
    /// The largest names, largest first, as far as they were asked for.
    pub largest: Vec<Entry>,
}
