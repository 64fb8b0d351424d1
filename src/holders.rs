//! Who holds inodes that have no name left: found in /proc, decided by the link
//! count of the thing itself, and only then described.

mod carriers;
pub mod cgroup;
pub mod describe;
mod fdinfo;
mod further;
pub mod kernel;
mod overlay;
mod patience;
mod places;
mod proc_maps;
mod process;
mod program;
mod scan;
mod unit;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use nix::errno::Errno;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::bytes::Bytes;
use crate::model::last_name::LastName;
use crate::model::skips::Skip;
use crate::sys::Dev;
use crate::sys::stat::Stat;

pub use describe::{Identity, Service};
pub use further::Found;
pub use kernel::{KernelHold, Reached};
pub use places::Places;
pub use program::Program;
pub use scan::{own_pids, scan};

/// An inode without a name, and all who were found to hold it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The inode, as the kernel described it.
    pub stat: Stat,
    /// Its last name.
    pub name: LastName,
    /// How processes hold it.
    pub holds: Vec<Hold>,
    /// How the kernel itself does. If neither: only the filesystem lists it.
    pub kernel: Vec<KernelHold>,
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
    /// A message that waits in the queue of a socket.
    Socket {
        /// The socket's descriptor.
        number: u32,
    },
    /// Registration with an `io_uring`.
    Ring {
        /// The ring's descriptor.
        number: u32,
    },
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
            Self::Socket { .. } => 5,
            Self::Ring { .. } => 6,
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

impl Held {
    /// Whether anybody was found to hold it.
    pub fn is_attributed(&self) -> bool {
        !self.holds.is_empty() || !self.kernel.is_empty()
    }

    fn key(&self) -> Key {
        key(&self.stat)
    }
}

/// What tells inodes apart. Deleted subvolumes have all the same device.
type Key = (Dev, Option<u64>, u64);

fn key(stat: &Stat) -> Key {
    let subvolume = stat.subvolume.filter(|_| stat.is_in_deleted_subvolume());
    (stat.dev, subvolume, stat.inode)
}

impl Scan {
    /// Joins what was found in another way: by the filesystem itself, which lists them without holder,
    /// or in the kernel. Names that /proc could not tell are filled in.
    pub fn join(&mut self, others: Vec<Held>) {
        let mut known: FxHashMap<_, usize> =
            self.held.iter().enumerate().map(|(index, held)| (held.key(), index)).collect();
        for other in others {
            match known.entry(other.key()) {
                Entry::Occupied(entry) => {
                    let held = &mut self.held[*entry.get()];
                    held.name.or(other.name);
                    held.kernel.extend(other.kernel);
                }
                Entry::Vacant(entry) => {
                    entry.insert(self.held.len());
                    self.held.push(other);
                }
            }
        }
        self.sort();
    }

    /// The largest first, and of each the most useful hold.
    fn sort(&mut self) {
        for held in &mut self.held {
            held.holds.sort_unstable_by_key(|hold| (hold.via.rank(), *hold));
            held.holds.dedup();
        }
        self.held.sort_by_key(|held| (Reverse(held.stat.allocated), held.stat.inode));
    }

    /// Keeps of those without a holder only what is `still` listed.
    pub fn keep(&mut self, still: &[Held]) {
        let still: FxHashSet<_> = still.iter().map(Held::key).collect();
        self.held.retain(|held| held.is_attributed() || still.contains(&held.key()));
    }

    /// Bytes of what is in this scan and was not in an earlier one.
    pub fn held_since(&self, earlier: &Self) -> Bytes {
        let known: FxHashSet<_> = earlier.held.iter().map(Held::key).collect();
        self.held
            .iter()
            .filter(|held| !known.contains(&held.key()))
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
    /// Whether the filesystem's own list of inodes without a name is in it: then `held` is all there is.
    pub listed: bool,
    /// Those that could not be, and deleted files that are mapped and could not be looked at.
    pub skips: Vec<Skip>,
    /// What was seen that may hold what seems to be held by nobody.
    pub suspects: Suspects,
}

/// What was seen and may hold an inode of this filesystem, without showing which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Sockets with descriptors in their queue that could not all be looked at.
    pub sockets: u64,
    /// `io_uring` instances with registered files.
    pub rings: u64,
    /// Inodes without a name that are held through overlays.
    pub overlays: u64,
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

    fn held(inode: u64, allocated: u64) -> Held {
        let stat = Stat { inode, allocated, ..Stat::default() };
        Held { stat, name: LastName::NotTold, holds: Vec::new(), kernel: Vec::new() }
    }

    fn scan(held: Vec<Held>) -> Scan {
        Scan { held, ..Scan::default() }
    }

    #[test]
    fn what_an_earlier_scan_has_seen_is_not_new() {
        let before = scan(vec![held(1, 10), held(2, 20)]);
        let after = scan(vec![held(2, 25), held(3, 30)]);
        assert_eq!(after.held_since(&before), Bytes(30));
    }

    #[test]
    fn what_only_the_filesystem_lists_has_no_holder() {
        let by_us = Hold { pid: 1, tid: None, via: Via::Mapping };
        let mut found = scan(vec![Held { holds: vec![by_us], ..held(1, 10) }]);
        let name = LastName::Told("/x".into());
        found.join(vec![held(2, 20), Held { name: name.clone(), ..held(1, 10) }]);
        let joined: Vec<_> = found
            .held
            .iter()
            .map(|held| (held.stat.inode, held.is_attributed(), held.name.clone()))
            .collect();
        assert_eq!(joined, [(2, false, LastName::NotTold), (1, true, name)]);
        found.keep(&[]);
        assert_eq!(found.held.len(), 1, "what is listed no more is not held");
    }
}
