// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who holds inodes that have no name left: found in /proc, decided by the link
//! count of the thing itself, and only then described.

pub mod cgroup;
pub mod describe;
mod fdinfo;
mod in_flight;
pub mod kernel;
mod overlay;
mod patience;
mod places;
mod proc_maps;
mod process;
mod program;
mod scan;
mod second_pass;
mod unit;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use nix::errno::Errno;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::bytes::{Bytes, Gap};
use crate::model::deleted::{Hold, KernelHolder, Reason, UnattributedReason};
use crate::model::last_name::LastName;
use crate::model::skips::{Kind, Knowledge, Skip};
use crate::sys::Dev;
use crate::sys::stat::Stat;

pub use places::Places;
pub use scan::{own_pids, scan};
pub use second_pass::Found;

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
    pub kernel: Vec<KernelHolder>,
}

impl Held {
    /// Whether anybody was found to hold it.
    pub fn is_attributed(&self) -> bool {
        !self.holds.is_empty() || !self.kernel.is_empty()
    }

    /// How much more it takes up than in an earlier scan, if it was in that.
    pub fn grown_since(&self, earlier: &Scan) -> Option<Gap> {
        let before = earlier.held.iter().find(|before| before.key() == self.key())?;
        Some(Bytes(self.stat.allocated) - Bytes(before.stat.allocated))
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

    /// What may hold those for which no holder was found.
    pub fn unattributed_reasons(&self) -> Vec<UnattributedReason> {
        if self.held.iter().all(Held::is_attributed) {
            return Vec::new();
        }
        let skipped = |kind| self.skips.iter().filter(|skip| skip.kind == kind).count() as u64;
        let counts = [
            (Reason::ProcessesNotInspected, skipped(Kind::Process)),
            (Reason::ProcessesNotListed, skipped(Kind::Unlisted).min(1)),
            (Reason::MappedFiles, skipped(Kind::Mapping)),
            (Reason::SocketsWithQueuedDescriptors, self.suspects.sockets),
            (Reason::IoUringRegisteredFiles, self.suspects.rings),
            (Reason::FilesOpenThroughOverlays, self.suspects.overlays),
        ];
        let some = counts.into_iter().filter(|&(_, count)| count > 0);
        some.map(|(reason, count)| UnattributedReason { reason, count }).collect()
    }

    /// What its filesystem's own list says of deleted files, and whether anybody is missing who holds one.
    pub fn knowledge(&self) -> Knowledge {
        // The files of a deleted subvolume are in no list, and damage may have cut the list short.
        let is_whole = |skip: &Skip| skip.kind != Kind::DeletedSubvolume && !skip.is_damage();
        Knowledge {
            is_listed: self.listed && self.skips.iter().all(is_whole),
            is_attributed: self.held.iter().all(Held::is_attributed),
        }
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
    use crate::model::deleted::Via;

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
