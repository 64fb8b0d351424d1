//! What `recover` and `release` can do for one file.

use std::path::Path;

use super::daemons::warning;
use super::{WORTH_A_LOOK, remedy, words};
use crate::model::bytes::Bytes;
use crate::model::file_spec::{Via, What};
use crate::report::{Action, HeldBy, Holder, Process, Remedy};

/// A copy. What runs is on the disk in another version, or can be had again; swap is of no use to anybody.
pub(super) fn recover(file: &Holder, by_number: Option<&Path>) -> Option<Remedy> {
    let is_swap = |held_by: &HeldBy| matches!(held_by, HeldBy::Kernel(kernel) if kernel.via == "swap");
    if !is_worth_it(file) || is_held(file, "exe") || file.held_by.iter().any(is_swap) {
        return None;
    }
    let command = [words(&["whyfull", "recover"]), named(file, by_number)?, words(&["DEST"])].concat();
    Some(Remedy {
        inode: Some(file.inode),
        loses_data: false,
        ..remedy(Action::Recover, Bytes::ZERO, command)
    })
}

/// Emptying it in place: nothing that runs, is mapped, or is the kernel's.
pub(super) fn release(file: &Holder, by_number: Option<&Path>) -> Option<Remedy> {
    let by_kernel = file.held_by.iter().any(|held_by| matches!(held_by, HeldBy::Kernel(_)));
    if !is_worth_it(file) || by_kernel || is_held(file, "exe") || is_held(file, "map") {
        return None;
    }
    let nobody = file.held_by.is_empty().then_some("no holder was found: the kernel itself may use it");
    let command = [words(&["whyfull", "release"]), named(file, by_number)?].concat();
    Some(Remedy {
        inode: Some(file.inode),
        warning: warning(file).or(nobody),
        ..remedy(Action::Release, file.bytes, command)
    })
}

fn is_worth_it(file: &Holder) -> bool {
    file.kind == "file" && file.bytes >= WORTH_A_LOOK
}

fn is_held(file: &Holder, how: &str) -> bool {
    file.held_by.iter().any(|held_by| matches!(held_by, HeldBy::Process(process) if process.via == how))
}

/// By one who holds it, with its number to make sure; else by its number alone.
fn named(file: &Holder, by_number: Option<&Path>) -> Option<Vec<String>> {
    let holder = file.held_by.iter().find_map(|held_by| match held_by {
        HeldBy::Process(process) => through(process),
        HeldBy::Kernel(_) => None,
    });
    if let Some(what) = holder {
        return Some(words(&[&what.to_string(), "--inode", &file.inode.to_string()]));
    }
    // Numbers of a deleted subvolume are in no list.
    let mountpoint = by_number.filter(|_| !file.in_deleted_subvolume)?.to_str()?;
    Some(words(&[&What::Inode(file.inode).to_string(), "--filesystem", mountpoint]))
}

/// What opens the file through that process. What waits in a socket or ring cannot be opened so.
fn through(process: &Process) -> Option<What> {
    let via = match (process.via, process.fd) {
        ("fd", Some(number)) => Via::Descriptor(number),
        ("map", _) => Via::Mapping,
        _ => return None,
    };
    Some(What::Held { task: process.tid.unwrap_or(process.pid), via })
}
