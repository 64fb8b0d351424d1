// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each process or unit holds in all. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::bytes::Bytes;
use crate::model::deleted::{DeletedFile, Holder, KernelVia};

/// By what to add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Each process; each device, mount, ... of the kernel.
    Process,
    /// Each systemd unit, and what belongs to none. Of the kernel each way in which it holds something.
    Unit,
}

/// Whose files are added up, as far as that tells groups apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The process, where groups are processes.
    pub pid: Option<i32>,
    /// Its command; for what the kernel holds, the device, mount point, ... that does.
    pub command: Option<String>,
    /// The systemd unit; none for what belongs to no unit.
    pub unit: Option<String>,
    /// How the kernel holds it; none for what processes hold.
    pub kernel: Option<KernelVia>,
}

/// What one group holds. Files that several hold count for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Whose files they are.
    pub group: Group,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

/// What each holds, the most first. A file counts once for each that holds it, in however many ways.
pub fn add_up(files: &[DeletedFile], by: GroupBy) -> Vec<Sum> {
    let mut sums: BTreeMap<Group, (Bytes, u64)> = BTreeMap::new();
    for file in files {
        let groups: BTreeSet<Group> = file.held_by.iter().map(|holder| group(holder, by)).collect();
        for group in groups {
            let (bytes, inodes) = sums.entry(group).or_default();
            *bytes += file.bytes;
            *inodes = inodes.saturating_add(1);
        }
    }
    let mut sums: Vec<Sum> =
        sums.into_iter().map(|(group, (bytes, inodes))| Sum { group, bytes, inodes }).collect();
    sums.sort_by_key(|sum| Reverse(sum.bytes));
    sums
}

fn group(holder: &Holder, by: GroupBy) -> Group {
    match (holder, by) {
        (Holder::Process(holder), GroupBy::Process) => Group {
            pid: Some(holder.hold.pid),
            command: holder.process.command.clone(),
            unit: holder.process.membership.unit.clone(),
            kernel: None,
        },
        (Holder::Process(holder), GroupBy::Unit) => {
            Group { unit: holder.process.membership.unit.clone(), ..Group::default() }
        }
        (Holder::Kernel(kernel), GroupBy::Process) => {
            Group { command: Some(kernel.name.clone()), kernel: Some(kernel.via), ..Group::default() }
        }
        (Holder::Kernel(kernel), GroupBy::Unit) => Group { kernel: Some(kernel.via), ..Group::default() },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::deleted::{Hold, KernelHolder, ProcessHolder, Via};
    use crate::model::process::{Membership, Process};

    fn process(pid: i32, unit: Option<&str>) -> Holder {
        let membership = Membership { unit: unit.map(str::to_owned), ..Membership::default() };
        let process = Arc::new(Process { membership, ..Process::default() });
        Holder::Process(ProcessHolder { hold: Hold { pid, tid: None, via: Via::Mapping }, process })
    }

    fn held(bytes: u64, held_by: Vec<Holder>) -> DeletedFile {
        DeletedFile { bytes: Bytes(bytes), held_by, ..DeletedFile::default() }
    }

    #[test]
    fn a_file_counts_once_for_each_that_holds_it() {
        let (first, second, alone) = (process(1, Some("a")), process(2, Some("a")), process(3, None));
        let files = [held(5, vec![first.clone(), first.clone(), second]), held(7, vec![first, alone])];
        let sums =
            |by| add_up(&files, by).into_iter().map(|s| (s.group.pid, s.group.unit, s.bytes.0, s.inodes));
        let unit = Some("a".to_owned());
        let by_process =
            [(Some(1), unit.clone(), 12, 2), (Some(3), None, 7, 1), (Some(2), unit.clone(), 5, 1)];
        assert!(sums(GroupBy::Process).eq(by_process));
        assert!(sums(GroupBy::Unit).eq([(None, unit, 12, 2), (None, None, 7, 1)]));
    }

    #[test]
    fn what_the_kernel_holds_is_no_process_without_a_unit() {
        let device = |name: &str| Holder::Kernel(KernelHolder::new(KernelVia::Loop, name.to_owned()));
        let files = [
            held(5, vec![device("a"), device("b")]),
            held(7, vec![device("b")]),
            held(1, vec![process(0, None)]),
        ];
        let sums = |by| {
            add_up(&files, by).into_iter().map(|s| (s.group.command, s.group.kernel, s.bytes.0, s.inodes))
        };
        let named = |name: &str| Some(name.to_owned());
        let by_loop = Some(KernelVia::Loop);
        let by_process = [(named("b"), by_loop, 12, 2), (named("a"), by_loop, 5, 1), (None, None, 1, 1)];
        assert!(sums(GroupBy::Process).eq(by_process));
        assert!(sums(GroupBy::Unit).eq([(None, by_loop, 12, 2), (None, None, 1, 1)]));
    }
}
