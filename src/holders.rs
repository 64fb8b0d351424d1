//! Who holds inodes that have no name left: found in /proc, decided by the link
//! count of the thing itself, and only then described.

pub mod cgroup;
pub mod describe;
mod places;
mod proc_maps;
mod process;
mod scan;

use std::path::PathBuf;

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use crate::bytes::Bytes;
use crate::skip::Skip;
use crate::sys::Dev;
use crate::sys::stat::Stat;

pub use places::Places;
pub use scan::scan;

/// An inode without a name, and all who were found to hold it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The inode, as the kernel described it.
    pub stat: Stat,
    /// Its last name as /proc shows it; `None` if it never had one (`O_TMPFILE`).
    pub path: Option<PathBuf>,
    /// At least one.
    pub holds: Vec<Hold>,
}

/// One way in which one process holds an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// The process.
    pub pid: i32,
    /// The thread, where it is not the whole process that holds it.
    pub tid: Option<i32>,
    /// How.
    pub via: Via,
}

/// The ways to hold an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// An open descriptor.
    Descriptor {
        /// Its number.
        number: u32,
        /// Open flags and offset, where fdinfo could be read.
        info: Option<DescriptorInfo>,
    },
    /// Mapped memory.
    Mapping,
    /// The running program.
    Executable,
    /// The working directory.
    WorkingDirectory,
    /// The root directory.
    RootDirectory,
}

impl Via {
    /// The most useful first: what can be copied from, then what tells most.
    fn rank(self) -> u8 {
        match self {
            Self::Descriptor { .. } => 0,
            Self::Executable => 1,
            Self::Mapping => 2,
            Self::WorkingDirectory => 3,
            Self::RootDirectory => 4,
        }
    }
}

/// What fdinfo says of a descriptor: `proc_pid_fdinfo(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DescriptorInfo {
    /// The flags of open(2), with `O_CLOEXEC`.
    pub flags: i32,
    /// The file offset.
    pub position: u64,
}

impl Scan {
    /// Bytes of what is in this scan and was not in an earlier one.
    pub fn held_since(&self, earlier: &Self) -> Bytes {
        let key = |held: &Held| (held.stat.dev, held.stat.inode);
        let known: FxHashSet<_> = earlier.held.iter().map(key).collect();
        self.held
            .iter()
            .filter(|held| !known.contains(&key(held)))
            .map(|held| Bytes(held.stat.allocated))
            .sum()
    }
}

/// What one scan of /proc came to.
#[derive(Debug, Default)]
pub struct Scan {
    /// Inodes without a name on the filesystems asked for, each once.
    pub held: Vec<Held>,
    /// How many processes were read.
    pub processes: u64,
    /// Those that could not be, and deleted files that are mapped and could not be looked at.
    pub skips: Vec<Skip>,
}

/// A mapping of a deleted file of which only /proc/PID/maps tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unseen {
    /// As in maps, which on btrfs is not the inode's own device.
    dev: Dev,
    inode: u64,
    /// The name as in maps, without " (deleted)".
    path: PathBuf,
    /// Why its inode could not be looked at.
    errno: Errno,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_scan_has_seen_is_not_new() {
        let held = |inode, allocated| {
            let stat = Stat {
                inode,
                allocated,
                links: 0,
                mode: 0,
                size: 0,
                modified: 0,
                mount: None,
                dev: Dev::default(),
            };
            Held { stat, path: None, holds: Vec::new() }
        };
        let scan = |held| Scan { held, ..Scan::default() };
        let before = scan(vec![held(1, 10), held(2, 20)]);
        let after = scan(vec![held(2, 25), held(3, 30)]);
        assert_eq!(after.held_since(&before), Bytes(30));
    }
}
