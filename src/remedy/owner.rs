//! Who alone keeps a file, and with it what ends that.

use super::daemons::{Reopener, reopener};
use crate::holders::MountedAt;
use crate::holders::cgroup::Runtime;
use crate::report::{HeldBy, Holder, Process};

/// Who alone keeps some files in use, as far as there is a command for it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner<'a> {
    /// A service of the system's manager.
    Service(&'a str),
    /// A container, by its id.
    Container(Runtime, &'a str),
    /// Processes outside of both that are known to open their logs anew.
    Daemon(Vec<i32>),
    /// A loop device.
    Loop(&'a str),
    /// A mount.
    Mount(&'a MountedAt),
    /// Somebody else, or several: this file is on its own.
    Nobody { subvolume: Option<u64>, inode: u64 },
}

impl<'a> Owner<'a> {
    pub(super) fn of(file: &'a Holder) -> Self {
        let nobody = Self::Nobody { subvolume: file.subvolume, inode: file.inode };
        match file.held_by.as_slice() {
            [HeldBy::Kernel(kernel)] if kernel.via == "loop" => Self::Loop(&kernel.name),
            [HeldBy::Kernel(kernel)] => kernel.mounted.as_ref().map_or(nobody, Self::Mount),
            _ => processes(file).and_then(|processes| Self::of_processes(&processes)).unwrap_or(nobody),
        }
    }

    fn of_processes(processes: &[&'a Process]) -> Option<Self> {
        let first = processes.first()?;
        if let Some(container) = first.container.as_deref() {
            let all = processes.iter().all(|process| process.container == first.container);
            return first.runtime.filter(|_| all).map(|runtime| Self::Container(runtime, container));
        }
        // Not those inside a container, where the system's manager does not reach.
        let same = |process: &&Process| {
            process.system_service == first.system_service && process.container.is_none()
        };
        if !processes.iter().all(same) {
            return None;
        }
        if let Some(unit) = first.system_service.as_deref() {
            return Some(Self::Service(unit));
        }
        let daemon = reopener(processes).filter(|daemon| daemon.all_take_it);
        daemon.map(|_| {
            let mut pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            Self::Daemon(pids)
        })
    }
}

/// The daemon whose log this is.
pub(super) fn writer(file: &Holder) -> Option<&'static Reopener> {
    reopener(&processes(file)?)
}

/// All that hold a file, where all of them are processes.
fn processes(file: &Holder) -> Option<Vec<&Process>> {
    let process = |held_by: &'_ HeldBy| matches!(held_by, HeldBy::Process(_));
    if !file.held_by.iter().all(process) {
        return None;
    }
    let all = file.held_by.iter().filter_map(|held_by| match held_by {
        HeldBy::Process(process) => Some(process),
        // What the kernel holds stays when the process has ended.
        HeldBy::Kernel(_) => None,
    });
    Some(all.collect())
}
