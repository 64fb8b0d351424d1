//! What each process or unit holds in all. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::report::{HeldBy, Holder, Sum};

/// By what to add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Each process; each device, mount, ... of the kernel.
    Process,
    /// Each systemd unit, and what belongs to none. Of the kernel each way in which it holds something.
    Unit,
}

/// Process, command, unit and how the kernel holds it, as far as they tell groups apart.
type Key = (Option<i32>, Option<String>, Option<String>, Option<&'static str>);

/// What each holds, the most first. A file counts once for each that holds it, in however many ways.
pub fn add_up(holders: &[Holder], by: By) -> Vec<Sum> {
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    for holder in holders {
        let keys: BTreeSet<Key> = holder.held_by.iter().map(|held_by| key(held_by, by)).collect();
        for key in keys {
            let (pid, command, unit, kernel) = key.clone();
            let empty =
                Sum { pid, command, unit, kernel, bytes: crate::model::bytes::Bytes::ZERO, inodes: 0 };
            let sum = sums.entry(key).or_insert(empty);
            sum.bytes += holder.bytes;
            sum.inodes = sum.inodes.saturating_add(1);
        }
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    sums.sort_by_key(|sum| Reverse(sum.bytes));
    sums
}

fn key(held_by: &HeldBy, by: By) -> Key {
    match (held_by, by) {
        (HeldBy::Process(process), By::Process) => {
            (Some(process.pid), process.command.clone(), process.unit.clone(), None)
        }
        (HeldBy::Process(process), By::Unit) => (None, None, process.unit.clone(), None),
        (HeldBy::Kernel(kernel), By::Process) => (None, Some(kernel.name.clone()), None, Some(kernel.via)),
        (HeldBy::Kernel(kernel), By::Unit) => (None, None, None, Some(kernel.via)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bytes::Bytes;
    use crate::report::{Kernel, Process};

    #[test]
    fn a_file_counts_once_for_each_that_holds_it() {
        let process = |pid, unit: Option<&str>| {
            HeldBy::Process(Process { pid, unit: unit.map(str::to_owned), ..Process::default() })
        };
        let held = |bytes, held_by| Holder { bytes: Bytes(bytes), held_by, ..Holder::default() };
        let (first, second, alone) = (process(1, Some("a")), process(2, Some("a")), process(3, None));
        let holders = [held(5, vec![first.clone(), first.clone(), second]), held(7, vec![first, alone])];
        let sums = |by| add_up(&holders, by).into_iter().map(|s| (s.pid, s.unit, s.bytes.0, s.inodes));
        let unit = Some("a".to_owned());
        let by_process =
            [(Some(1), unit.clone(), 12, 2), (Some(3), None, 7, 1), (Some(2), unit.clone(), 5, 1)];
        assert!(sums(By::Process).eq(by_process));
        assert!(sums(By::Unit).eq([(None, unit, 12, 2), (None, None, 7, 1)]));
    }

    #[test]
    fn what_the_kernel_holds_is_no_process_without_a_unit() {
        let device =
            |name: &str| HeldBy::Kernel(Kernel { via: "loop", name: name.to_owned(), ..Kernel::default() });
        let process = HeldBy::Process(Process::default());
        let held = |bytes, held_by| Holder { bytes: Bytes(bytes), held_by, ..Holder::default() };
        let holders =
            [held(5, vec![device("a"), device("b")]), held(7, vec![device("b")]), held(1, vec![process])];
        let sums = |by| add_up(&holders, by).into_iter().map(|s| (s.command, s.kernel, s.bytes.0, s.inodes));
        let named = |name: &str| Some(name.to_owned());
        let by_process =
            [(named("b"), Some("loop"), 12, 2), (named("a"), Some("loop"), 5, 1), (None, None, 1, 1)];
        assert!(sums(By::Process).eq(by_process));
        assert!(sums(By::Unit).eq([(None, Some("loop"), 12, 2), (None, None, 1, 1)]));
    }
}
