// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inodes whose device does not tell on which filesystem they are: the mount they were reached through
//! does, though it may be one of another mount namespace.
//!
//! Through an overlay an inode shows the overlay's device, and often another inode's number: that of the
//! file in a lower layer that it is a copy of (fs/overlayfs/inode.c, `ovl_map_dev_ino`). All else is
//! passed on from the layer. So it is found again among what the filesystem itself lists.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Held;
use super::patience::Patience;
use super::process::Sighting;
use crate::model::last_name::LastName;
use crate::model::traits::TraitsOf;
use crate::mounts::{Mount, mountinfo};
use crate::sys::detached::within;

/// The mounts of all namespaces in which something was seen.
pub(super) struct Tables<'a> {
    proc: &'a Path,
    traits_of: TraitsOf,
    read: FxHashSet<PathBuf>,
    mounts: FxHashMap<u64, Mount>,
    patience: Patience,
}

impl<'a> Tables<'a> {
    pub(super) fn new(proc: &'a Path, traits_of: TraitsOf, timeout: Duration) -> Self {
        let (read, mounts) = (FxHashSet::default(), FxHashMap::default());
        Self { proc, traits_of, read, mounts, patience: Patience::new(timeout) }
    }

    /// The mount that something was reached through, unless it is none of the holder's namespace.
    pub(super) fn mount_of(&mut self, sighting: &Sighting) -> Option<&Mount> {
        let id = sighting.stat.mount?;
        if !self.mounts.contains_key(&id) {
            self.read(sighting.hold.task());
        }
        self.mounts.get(&id)
    }

    fn read(&mut self, task: i32) {
        let task = self.proc.join(task.to_string());
        let link = task.join("ns/mnt");
        // A task that is just executing a program keeps us waiting for as long as the files take that this closes:
        // `proc_ns_readlink` (fs/proc/namespaces.c).
        let read = self.patience.spend(|timeout| within(timeout, || std::fs::read_link(link)));
        let Some(Ok(namespace)) = read else { return };
        if self.read.insert(namespace)
            && let Ok(text) = std::fs::read(task.join("mountinfo"))
        {
            let mounts = mountinfo::parse(&text, self.traits_of);
            self.mounts.extend(mounts.into_iter().map(|mount| (mount.id, mount)));
        }
    }
}

/// Where the upper layer of an overlay has the inode of `sighting`; the layer's directory, where its path
/// does not lead there.
pub(super) fn upper_path(sighting: &Sighting, overlay: &Mount) -> Option<PathBuf> {
    let upper = overlay.directory_option("upperdir")?;
    let relative = |path: &Path| path.strip_prefix(&overlay.mountpoint).map(Path::to_path_buf);
    match sighting.name.path().map(relative) {
        Some(Ok(relative)) => Some(upper.join(relative)),
        _ => Some(upper),
    }
}

/// Which of `held`, each with its filesystem's number, is the inode of `sighting`: the one that looks like
/// it to the nanosecond and, where both are known, had the same name, which an overlay does not change. If
/// files of one size were written and deleted within one tick of the clock, its number decides, or its
/// path in the `upper` layer. None rather than the wrong one.
pub(super) fn the_same<'a>(
    sighting: &Sighting,
    upper: Option<&Path>,
    held: impl Iterator<Item = (usize, &'a Held)>,
) -> Option<(usize, &'a Held)> {
    let name = |name: &LastName| name.path().and_then(Path::file_name).map(ToOwned::to_owned);
    let seen = name(&sighting.name);
    let is_named_so = |held: &Held| match (&seen, name(&held.name)) {
        (Some(seen), Some(name)) => *seen == name,
        _ => true,
    };
    let is_alike = |held: &Held| held.stat.looks_like(&sighting.stat) && is_named_so(held);
    let mut alike: Vec<_> = held.filter(|(_, held)| is_alike(held)).collect();
    let by_number = |held: &Held| held.stat.inode == sighting.stat.inode;
    // A relative upper directory is relative to wherever the mounting process was.
    let by_path =
        |held: &Held| upper.is_some_and(|upper| held.name.path().is_some_and(|path| path.ends_with(upper)));
    let criteria: [&dyn Fn(&Held) -> bool; 2] = [&by_number, &by_path];
    for criterion in criteria {
        if alike.len() > 1 && alike.iter().any(|(_, held)| criterion(held)) {
            alike.retain(|(_, held)| criterion(held));
        }
    }
    match alike.as_slice() {
        [found] => Some(*found),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::places::Place;
    use crate::model::deleted::{Hold, Via};
    use crate::sys::stat::{Moment, Stat};

    fn stat(inode: u64, nanoseconds: u32) -> Stat {
        Stat { inode, size: 7, changed: Moment { seconds: 1, nanoseconds }, ..Stat::default() }
    }

    fn held(stat: Stat, path: &str) -> Held {
        Held { stat, name: LastName::Told(path.into()), holds: Vec::new(), kernel: Vec::new() }
    }

    fn found(sighting: Stat, upper: Option<&str>, held: &[Held]) -> Option<u64> {
        named(sighting, None, upper, held)
    }

    fn named(stat: Stat, path: Option<&str>, upper: Option<&str>, held: &[Held]) -> Option<u64> {
        let by = Hold { pid: 1, tid: None, via: Via::Mapping };
        let name = path.map_or(LastName::NotTold, |path| LastName::Told(path.into()));
        let sighting = Sighting { place: Place::Unknown, stat, name, hold: by };
        the_same(&sighting, upper.map(Path::new), held.iter().map(|held| (0, held)))
            .map(|(_, held)| held.stat.inode)
    }

    #[test]
    fn what_looks_the_same_is_the_same() {
        let listed = [held(stat(20, 1), "/u/a"), held(stat(21, 2), "/u/b")];
        assert_eq!(found(stat(13, 2), None, &listed), Some(21));
        assert_eq!(found(stat(20, 3), None, &listed), None, "a number alone says nothing");
    }

    #[test]
    fn what_had_another_name_is_another() {
        let listed = [held(stat(20, 1), "/u/a")];
        assert_eq!(named(stat(13, 1), Some("/merged/a"), None, &listed), Some(20));
        assert_eq!(named(stat(13, 1), Some("/merged/b"), None, &listed), None);
    }

    #[test]
    fn of_several_that_look_the_same_number_or_path_decide() {
        let listed = [held(stat(20, 1), "/layers/u/a"), held(stat(21, 1), "/layers/u/b")];
        assert_eq!(found(stat(21, 1), None, &listed), Some(21));
        assert_eq!(found(stat(13, 1), Some("/layers/u/a"), &listed), Some(20));
        assert_eq!(found(stat(13, 1), Some("u/a"), &listed), Some(20));
        assert_eq!(found(stat(13, 1), Some("/u/a"), &listed), None);
    }
}
