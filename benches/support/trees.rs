// SPDX-License-Identifier: MIT OR Apache-2.0

//! The trees to walk, the same on every machine.
//!
//! Files are empty or preallocated, so that a million of them are made in
//! seconds and yet have the blocks that the contenders have to add up.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use clap::ValueEnum;
use nix::fcntl::{AtFlags, FallocateFlags, OFlag, fallocate, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{linkat, symlinkat};

use super::interrupt::interrupted;

/// Levels of the deep tree below its root.
const DEPTH: u64 = 34;
/// Subdirectories of each directory of the wide tree.
const FANOUT: u64 = 36;

/// The shape of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tree {
    /// Many directories of some twenty entries each, four levels deep.
    Wide,
    /// Chains of small directories, each inside the one before.
    Deep,
    /// All files in a single directory.
    Flat,
    /// The three side by side.
    Mixed,
}

impl Tree {
    const PARTS: [Self; 3] = [Self::Wide, Self::Deep, Self::Flat];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Deep => "deep",
            Self::Flat => "flat",
            Self::Mixed => "mixed",
        }
    }

    /// How many entries the tree has unless told otherwise.
    pub(crate) fn usual_entries(self) -> u64 {
        match self {
            Self::Wide => 1_060_000,
            Self::Deep => 240_000,
            Self::Flat => 300_000,
            Self::Mixed => Self::PARTS.into_iter().map(Self::usual_entries).sum(),
        }
    }

    /// Directories including the tree's root.
    fn directories(self, entries: u64) -> u64 {
        match self {
            Self::Wide => entries * 50 / 1060,
            Self::Deep => entries / 6,
            Self::Flat | Self::Mixed => 1,
        }
        .max(1)
    }

    /// The subdirectories of directory number `parent`; the root is number 0.
    fn children(self, parent: u64, directories: u64) -> Vec<u64> {
        let below = |range: Range<u64>| range.start..range.end.min(directories);
        match self {
            Self::Wide => below(FANOUT * parent + 1..FANOUT * (parent + 1) + 1).collect(),
            Self::Deep if parent == 0 => (1..directories).step_by(usize_of(DEPTH)).collect(),
            Self::Deep if parent.is_multiple_of(DEPTH) => Vec::new(),
            Self::Deep => below(parent + 1..parent + 2).collect(),
            Self::Flat | Self::Mixed => Vec::new(),
        }
    }

    /// Makes the tree with `entries` entries below `root`.
    pub(crate) fn generate(self, root: &Path, entries: u64) -> io::Result<()> {
        if self == Self::Mixed {
            let share = |part: Self| entries * part.usual_entries() / self.usual_entries();
            return Self::PARTS.into_iter().try_for_each(|part| part.generate(root, share(part)));
        }
        let directories = self.directories(entries);
        let mut generator = Generator {
            tree: self,
            directories,
            files: entries.saturating_sub(directories),
            made: 0,
            link_target: None,
        };
        let root = File::open(root)?;
        mkdirat(&root, self.name(), Mode::from_bits_truncate(0o755))?;
        let top = openat(&root, self.name(), DIRECTORY, Mode::empty())?;
        generator.fill(&top, 0)?;
        nix::unistd::syncfs(&root)?;
        Ok(())
    }
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

struct Generator {
    tree: Tree,
    directories: u64,
    /// Names that are not directories, shared out among the directories.
    files: u64,
    made: u64,
    /// A recent file, which the next hard links are further names of.
    link_target: Option<OwnedFd>,
}

impl Generator {
    fn fill(&mut self, dir: &OwnedFd, number: u64) -> io::Result<()> {
        let left_over = u64::from(number < self.files % self.directories);
        for _ in 0..self.files / self.directories + left_over {
            self.entry(dir)?;
        }
        if interrupted() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        for child in self.tree.children(number, self.directories) {
            let name = format!("dir{child:05}");
            mkdirat(dir, name.as_str(), Mode::from_bits_truncate(0o755))?;
            let below = openat(dir, name.as_str(), DIRECTORY, Mode::empty())?;
            self.fill(&below, child)?;
        }
        Ok(())
    }

    fn entry(&mut self, dir: &OwnedFd) -> io::Result<()> {
        self.made += 1;
        let dice = scramble(self.made);
        let name = CString::new(format!("{:07}-{dice:x}.dat", self.made))?;
        match (dice % 100, &self.link_target) {
            (0..3, Some(target)) => {
                linkat(target, c"", dir, name.as_c_str(), AtFlags::AT_EMPTY_PATH)?;
            }
            // Half of the link texts are too long for the inode: one block more.
            (3, _) => symlinkat(&*"../".repeat(30), dir, name.as_c_str())?,
            (4, _) => symlinkat("../elsewhere", dir, name.as_c_str())?,
            _ => {
                let file = create(dir, &name, size(dice >> 8))?;
                if self.made % 32 == 1 {
                    self.link_target = Some(file);
                }
            }
        }
        Ok(())
    }
}

fn create(dir: impl AsFd, name: &CString, size: i64) -> io::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(dir, name.as_c_str(), flags, Mode::from_bits_truncate(0o644))?;
    if size > 0 {
        fallocate(&file, FallocateFlags::empty(), 0, size)?;
    }
    Ok(file)
}

/// Mostly nothing, sometimes a block, rarely a megabyte.
fn size(dice: u64) -> i64 {
    let bytes = match dice % 1000 {
        0 => 1 << 20,
        1..30 => dice % 65_536,
        30..180 => dice % 4096 + 1,
        _ => 0,
    };
    i64::try_from(bytes).unwrap_or(0)
}

/// The bytes that a filesystem needs to hold such a tree.
pub(crate) fn room(entries: u64) -> u64 {
    (512 << 20) + entries * 6144
}

/// `SplitMix64`: numbers that look random and are the same on every run.
pub(crate) fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
