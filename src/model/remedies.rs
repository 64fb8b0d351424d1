// SPDX-License-Identifier: MIT OR Apache-2.0

//! What would free space: from the holders, and from what is hidden, to commands,
//! the least harmful first. Pure.

mod daemons;
mod single;
mod sole_holder;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use crate::model::bytes::Bytes;
use crate::model::deleted::DeletedFile;
use crate::model::file_spec::FileSpec;
use crate::model::process::Runtime;
use crate::model::usage::Hidden;
use daemons::{Reopener, warning};
use sole_holder::{SoleHolder, writer};

/// What a mount point hides is pointed out, and a file saved or emptied on its own, from here on.
const WORTH_A_LOOK: Bytes = Bytes(1 << 20);
/// As much of a container's id as its runtime prints.
const SHORT_ID: usize = 12;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// Those with the same number are about the same files: what they free is not to be added up.
    pub group: usize,
    /// Of which kind.
    pub action: Action,
    /// The file, where it is about one alone.
    pub inode: Option<u64>,
    /// What it gives back.
    pub frees: Bytes,
    /// The command as argv, never a shell string.
    pub command: Vec<String>,
    /// Whether the data in the deleted files is gone then.
    pub loses_data: bool,
    /// What to know first, for people.
    pub warning: Option<&'static str>,
}

/// The things that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Signal a daemon that then opens its logs anew.
    ReopenLogs,
    /// Copy a file out. `DEST`, the last word of the command, is to be replaced.
    Recover,
    /// Restart a service of the system's manager.
    RestartUnit,
    /// Restart a container.
    RestartContainer,
    /// Detach a loop device from its file.
    DetachLoop,
    /// Unmount what is mounted from it.
    Unmount,
    /// Free a file's blocks beneath the program that holds it. Asks, unless `--yes` is added.
    Release,
    /// List what a mount point hides, to see what of it may go.
    ListHidden,
}

/// The filesystem that has the files.
#[derive(Clone, Copy, Debug)]
pub struct Filesystem<'a> {
    /// Where it is mounted.
    pub mountpoint: &'a Path,
    /// Whether it lists its deleted files, so that their number alone names them.
    pub is_listed: bool,
}

impl<'a> Filesystem<'a> {
    /// To be given with a file's number, where that names it.
    fn by_number(self) -> Option<&'a Path> {
        Some(self.mountpoint).filter(|_| self.is_listed)
    }
}

/// What there is to do about each service, container, daemon and loop device that alone holds something,
/// about each other file on its own, and about what mount points hide, unless that is listed already. What
/// frees most stands first.
///
/// Every command runs a program that root's own PATH leads to, and nothing in a mount namespace or root
/// directory of others. No name that a process, a user or a container chooses for itself decides whom it hits.
pub fn advise(deleted: &[DeletedFile], hidden: &[Hidden], filesystem: Filesystem<'_>) -> Vec<Remedy> {
    let mut owned: BTreeMap<SoleHolder<'_>, Vec<&DeletedFile>> = BTreeMap::new();
    for file in deleted.iter().filter(|file| file.bytes > Bytes::ZERO) {
        owned.entry(SoleHolder::of(file)).or_default().push(file);
    }
    let mut groups: Vec<Vec<Remedy>> = owned
        .iter()
        .map(|(holder, files)| about(holder, files, filesystem))
        .chain(hidden.iter().map(|hidden| look_beneath(hidden).into_iter().collect()))
        .filter(|group| !group.is_empty())
        .collect();
    groups.sort_by_key(|group| Reverse(group.iter().map(|remedy| remedy.frees).max()));
    let numbered = |(group, remedies): (usize, Vec<Remedy>)| {
        remedies.into_iter().map(move |remedy| Remedy { group, ..remedy })
    };
    groups.into_iter().enumerate().flat_map(numbered).collect()
}

/// What can be done about the files of one holder, from the least harmful on.
fn about(holder: &SoleHolder<'_>, files: &[&DeletedFile], filesystem: Filesystem<'_>) -> Vec<Remedy> {
    let mut remedies: Vec<Remedy> = reopen(holder, files).into_iter().collect();
    remedies.extend(files.iter().filter_map(|file| single::recover(file, filesystem.by_number())));
    remedies.extend(end(holder, files, filesystem));
    remedies.extend(files.iter().filter_map(|file| single::release(file, filesystem.by_number())));
    remedies
}

/// A signal to a daemon that holds nothing but logs among these files, or to what it holds besides.
fn reopen(holder: &SoleHolder<'_>, files: &[&DeletedFile]) -> Option<Remedy> {
    let daemon = files.iter().find_map(|file| writer(file))?;
    let logs = files.iter().filter(|file| writer(file) == Some(daemon));
    let bytes = logs.map(|file| file.bytes).sum();
    Some(Remedy { loses_data: false, ..remedy(Action::ReopenLogs, bytes, signal(holder, daemon)?) })
}

fn signal(holder: &SoleHolder<'_>, daemon: &Reopener) -> Option<Vec<String>> {
    let signal = daemon.signal;
    match holder {
        // What else runs in the unit may not expect it.
        SoleHolder::Service(unit) => {
            Some(words(&["systemctl", "kill", "--kill-who=main", &format!("--signal={signal}"), unit]))
        }
        SoleHolder::Daemon(pids) => {
            let mut command = words(&["kill", &format!("-{signal}")]);
            command.extend(pids.iter().map(ToString::to_string));
            Some(command)
        }
        SoleHolder::Container { .. }
        | SoleHolder::Loop(_)
        | SoleHolder::Mounts { .. }
        | SoleHolder::Nobody { .. } => None,
    }
}

/// What makes a holder let go of all it holds.
fn end(holder: &SoleHolder<'_>, files: &[&DeletedFile], filesystem: Filesystem<'_>) -> Option<Remedy> {
    let bytes = files.iter().map(|file| file.bytes).sum();
    let (action, command) = match holder {
        SoleHolder::Service(unit) => (Action::RestartUnit, words(&["systemctl", "restart", unit])),
        SoleHolder::Container { runtime, id, .. } => (Action::RestartContainer, restart(*runtime, id)),
        SoleHolder::Loop(device) => (Action::DetachLoop, words(&["losetup", "-d", device])),
        SoleHolder::Mounts { inode } => (Action::Unmount, unmount(*inode, filesystem)?),
        SoleHolder::Daemon(_) | SoleHolder::Nobody { .. } => return None,
    };
    let known = || files.iter().find_map(|file| warning(file));
    let warning = match holder {
        // The kernel detaches it when nobody uses it any more: drivers/block/loop.c, `loop_clr_fd`.
        SoleHolder::Loop(_) => Some("unmount first what is mounted from it, or it keeps the file"),
        SoleHolder::Service(_) => {
            known().or_else(|| files.iter().find_map(|file| sole_holder::foreign(file)))
        }
        SoleHolder::Container { is_nested: true, .. } => known().or(Some(
            "a container inside this one seems to hold it: it is enough to restart that one, from inside",
        )),
        _ => known(),
    };
    Some(Remedy { warning, ..remedy(action, bytes, command) })
}

fn restart(runtime: Runtime, id: &str) -> Vec<String> {
    let id = id.get(..SHORT_ID).unwrap_or(id);
    match runtime {
        Runtime::Docker => words(&["docker", "restart", id]),
        Runtime::Podman => words(&["podman", "restart", id]),
        // The kubelet starts it again.
        Runtime::Kubernetes => words(&["crictl", "stop", id]),
    }
}

/// By whyfull itself. `nsenter` would run the `umount` of the namespace that is entered, as root, and that may
/// be a user's program; `umount` would follow links that a user has put in the way of the mount point.
fn unmount(inode: u64, filesystem: Filesystem<'_>) -> Option<Vec<String>> {
    let spec = FileSpec::Inode(inode).to_string();
    Some(words(&["whyfull", "release", &spec, "--filesystem", filesystem.mountpoint.to_str()?, "--unmount"]))
}

/// Only whoever knows the files can say which of them may go.
fn look_beneath(hidden: &Hidden) -> Option<Remedy> {
    let command = words(&["whyfull", "--hidden", hidden.mountpoint.to_str()?]);
    (hidden.tally.bytes > WORTH_A_LOOK && hidden.largest.is_none())
        .then(|| Remedy { loses_data: false, ..remedy(Action::ListHidden, hidden.tally.bytes, command) })
}

/// One that loses the data, about more than one file.
fn remedy(action: Action, frees: Bytes, command: Vec<String>) -> Remedy {
    Remedy { group: 0, action, inode: None, frees, command, loses_data: true, warning: None }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
