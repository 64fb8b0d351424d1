// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `recover` and `release` can do for one file.

use std::path::Path;

use super::daemons::warning;
use super::{Action, Remedy, WORTH_A_LOOK, remedy, words};
use crate::model::bytes::Bytes;
use crate::model::deleted::{DeletedFile, FileKind, KernelVia, Via};
use crate::model::file_spec::FileSpec;

/// A copy. What runs is on the disk in another version, or can be had again; swap is of no use to anybody.
pub(super) fn recover(file: &DeletedFile, by_number: Option<&Path>) -> Option<Remedy> {
    let is_swap = file.kernel().any(|kernel| kernel.via == KernelVia::Swap);
    if !is_worth_it(file) || is_held(file, Via::Executable) || is_swap {
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
pub(super) fn release(file: &DeletedFile, by_number: Option<&Path>) -> Option<Remedy> {
    let is_the_kernels = file.kernel().next().is_some();
    let is_mapped = is_held(file, Via::Executable) || is_held(file, Via::Mapping);
    if !is_worth_it(file) || is_the_kernels || is_mapped {
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

fn is_worth_it(file: &DeletedFile) -> bool {
    file.kind == FileKind::File && file.bytes >= WORTH_A_LOOK
}

fn is_held(file: &DeletedFile, via: Via) -> bool {
    file.processes().any(|holder| holder.hold.via == via)
}

/// By one who holds it, with its number to make sure; else by its number alone.
fn named(file: &DeletedFile, by_number: Option<&Path>) -> Option<Vec<String>> {
    if let Some(spec) = file.processes().find_map(|holder| FileSpec::of_hold(&holder.hold)) {
        return Some(words(&[&spec.to_string(), "--inode", &file.inode.to_string()]));
    }
    // Numbers of a deleted subvolume are in no list.
    let mountpoint = by_number.filter(|_| file.deleted_subvolume.is_none())?.to_str()?;
    Some(words(&[&FileSpec::Inode(file.inode).to_string(), "--filesystem", mountpoint]))
}
