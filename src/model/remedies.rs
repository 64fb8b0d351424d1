//! What would free space: from the holders, and from what is hidden, to commands,
//! the least harmful first. Pure.

mod daemons;
mod owner;
mod single;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use crate::holders::cgroup::Runtime;
use crate::model::bytes::Bytes;
use crate::model::file_spec::What;
use crate::report::{Action, Hidden, Holder, Remedy};
use daemons::{Reopener, warning};
use owner::{Owner, writer};

/// What a mount point hides is pointed out, and a file saved or emptied on its own, from here on.
const WORTH_A_LOOK: Bytes = Bytes(1 << 20);
/// As much of a container's id as its runtime prints.
const SHORT_ID: usize = 12;

/// The filesystem that it is all about.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Where it is mounted.
    pub mountpoint: &'a Path,
    /// Whether it lists its deleted files, so that their number alone names them.
    pub is_listed: bool,
}

impl<'a> Place<'a> {
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
pub fn advise(holders: &[Holder], hidden: &[Hidden], place: Place<'_>) -> Vec<Remedy> {
    let mut owned: BTreeMap<Owner<'_>, Vec<&Holder>> = BTreeMap::new();
    for file in holders.iter().filter(|holder| holder.bytes > Bytes::ZERO) {
        owned.entry(Owner::of(file)).or_default().push(file);
    }
    let mut groups: Vec<Vec<Remedy>> = owned
        .iter()
        .map(|(owner, files)| about(owner, files, place))
        .chain(hidden.iter().map(|hidden| look_beneath(hidden).into_iter().collect()))
        .filter(|group| !group.is_empty())
        .collect();
    groups.sort_by_key(|group| Reverse(group.iter().map(|remedy| remedy.frees_bytes).max()));
    let numbered = |(group, remedies): (usize, Vec<Remedy>)| {
        remedies.into_iter().map(move |remedy| Remedy { group, ..remedy })
    };
    groups.into_iter().enumerate().flat_map(numbered).collect()
}

/// What can be done about the files of one owner, from the least harmful on.
fn about(owner: &Owner<'_>, files: &[&Holder], place: Place<'_>) -> Vec<Remedy> {
    let mut remedies: Vec<Remedy> = reopen(owner, files).into_iter().collect();
    remedies.extend(files.iter().filter_map(|file| single::recover(file, place.by_number())));
    remedies.extend(end(owner, files, place));
    remedies.extend(files.iter().filter_map(|file| single::release(file, place.by_number())));
    remedies
}

/// A signal to a daemon that holds nothing but logs among these files, or to what it holds besides.
fn reopen(owner: &Owner<'_>, files: &[&Holder]) -> Option<Remedy> {
    let daemon = files.iter().find_map(|file| writer(file))?;
    let logs = files.iter().filter(|file| writer(file) == Some(daemon));
    let bytes = logs.map(|file| file.bytes).sum();
    Some(Remedy { loses_data: false, ..remedy(Action::ReopenLogs, bytes, signal(owner, daemon)?) })
}

fn signal(owner: &Owner<'_>, daemon: &Reopener) -> Option<Vec<String>> {
    let signal = daemon.signal;
    match owner {
        // What else runs in the unit may not expect it.
        Owner::Service(unit) => {
            Some(words(&["systemctl", "kill", "--kill-who=main", &format!("--signal={signal}"), unit]))
        }
        Owner::Daemon(pids) => {
            let mut command = words(&["kill", &format!("-{signal}")]);
            command.extend(pids.iter().map(ToString::to_string));
            Some(command)
        }
        Owner::Container { .. } | Owner::Loop(_) | Owner::Mounts { .. } | Owner::Nobody { .. } => None,
    }
}

/// What makes an owner let go of all it holds.
fn end(owner: &Owner<'_>, files: &[&Holder], place: Place<'_>) -> Option<Remedy> {
    let bytes = files.iter().map(|file| file.bytes).sum();
    let (action, command) = match owner {
        Owner::Service(unit) => (Action::RestartUnit, words(&["systemctl", "restart", unit])),
        Owner::Container { runtime, id, .. } => (Action::RestartContainer, restart(*runtime, id)),
        Owner::Loop(device) => (Action::DetachLoop, words(&["losetup", "-d", device])),
        Owner::Mounts { inode } => (Action::Unmount, unmount(*inode, place)?),
        Owner::Daemon(_) | Owner::Nobody { .. } => return None,
    };
    let known = || files.iter().find_map(|file| warning(file));
    let warning = match owner {
        // The kernel detaches it when nobody uses it any more: drivers/block/loop.c, `loop_clr_fd`.
        Owner::Loop(_) => Some("unmount first what is mounted from it, or it keeps the file"),
        Owner::Service(_) => known().or_else(|| files.iter().find_map(|file| owner::foreign(file))),
        Owner::Container { is_nested: true, .. } => known().or(Some(
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
fn unmount(inode: u64, place: Place<'_>) -> Option<Vec<String>> {
    let what = What::Inode(inode).to_string();
    Some(words(&["whyfull", "release", &what, "--filesystem", place.mountpoint.to_str()?, "--unmount"]))
}

/// Only whoever knows the files can say which of them may go.
fn look_beneath(hidden: &Hidden) -> Option<Remedy> {
    let command = words(&["whyfull", "--hidden", hidden.mountpoint.to_str()?]);
    (hidden.bytes > WORTH_A_LOOK && hidden.largest.is_none())
        .then(|| Remedy { loses_data: false, ..remedy(Action::ListHidden, hidden.bytes, command) })
}

/// One that loses the data, about more than one file.
fn remedy(action: Action, frees_bytes: Bytes, command: Vec<String>) -> Remedy {
    Remedy { group: 0, action, inode: None, frees_bytes, command, loses_data: true, warning: None }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
