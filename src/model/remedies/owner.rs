//! Who alone keeps a file, and with it what ends that.

use super::daemons::{Reopener, reopener};
use crate::holders::Service;
use crate::holders::cgroup::Runtime;
use crate::report::{HeldBy, Holder, Process};

/// From here on user ids are people's, and below the system's own: login.defs(5), `UID_MIN`.
const PEOPLE_FROM: u32 = 1000;

/// Who alone keeps some files in use, as far as there is a command for it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner<'a> {
    /// A service of the system's manager.
    Service(&'a str),
    /// A container that root's runtime has made.
    Container {
        /// What runs it.
        runtime: Runtime,
        /// Its id.
        id: &'a str,
        /// Whether a container within it seems to be the holder.
        is_nested: bool,
    },
    /// Processes outside of both that are known to open their logs anew.
    Daemon(Vec<i32>),
    /// A loop device.
    Loop(&'a str),
    /// Mounts of this file, and nothing else.
    Mounts {
        /// Its number.
        inode: u64,
    },
    /// Somebody else, or several: this file is on its own.
    Nobody { subvolume: Option<u64>, inode: u64 },
}

impl<'a> Owner<'a> {
    pub(super) fn of(file: &'a Holder) -> Self {
        let can_be_unmounted =
            |held_by: &HeldBy| matches!(held_by, HeldBy::Kernel(kernel) if kernel.can_be_unmounted);
        let nobody = Self::Nobody { subvolume: file.subvolume, inode: file.inode };
        match file.held_by.as_slice() {
            [HeldBy::Kernel(kernel)] if kernel.via == "loop" => Self::Loop(&kernel.name),
            // Numbers of a deleted subvolume are in no list.
            mounts @ [_, ..] if mounts.iter().all(can_be_unmounted) && !file.in_deleted_subvolume => {
                Self::Mounts { inode: file.inode }
            }
            _ => processes(file).and_then(|processes| Self::of_processes(&processes)).unwrap_or(nobody),
        }
    }

    fn of_processes(processes: &[&'a Process]) -> Option<Self> {
        let first = processes.first()?;
        // Whoever can connect to a process can send it a descriptor: it need not know of the file.
        if processes.iter().any(|process| process.via == "socket") {
            return None;
        }
        if let Some(id) = first.container.as_deref() {
            let all = processes.iter().all(|process| process.container == first.container);
            let is_nested = processes.iter().any(|process| process.nested_container.is_some());
            return first.runtime.filter(|_| all).map(|runtime| Self::Container { runtime, id, is_nested });
        }
        // Not those inside a container, where the system's manager does not reach.
        let same = |process: &&Process| unit(process) == unit(first) && process.container.is_none();
        if !processes.iter().all(same) {
            return None;
        }
        if let Some(service) = &first.identity.service {
            // What others have it run (cron, a web server) may not end with it.
            let its_own = |process: &&Process| is_its_own(process, service);
            return processes.iter().any(its_own).then_some(Self::Service(&service.unit));
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

fn unit(process: &Process) -> Option<&str> {
    process.identity.service.as_ref().map(|service| service.unit.as_str())
}

/// Whether the service runs that process for itself: as the one user that it runs as, or as one of the
/// system's.
fn is_its_own(process: &Process, service: &Service) -> bool {
    process.identity.uid.is_some_and(|uid| uid < PEOPLE_FROM || service.uid == Some(uid))
}

/// What to know before a service is restarted for the sake of a file that may not be its own.
pub(super) fn foreign(file: &Holder) -> Option<&'static str> {
    let processes = processes(file)?;
    let is_anothers = |process: &&Process| {
        process.identity.service.as_ref().is_some_and(|service| !is_its_own(process, service))
    };
    let opened_by_its_owner = |process: &&Process| process.identity.uid == Some(file.uid);
    if processes.iter().any(is_anothers) {
        Some("a process that the service runs for a user holds it, too, and may outlive the restart")
    } else if file.uid >= PEOPLE_FROM && !processes.iter().any(opened_by_its_owner) {
        Some(
            "the file belongs to a user, who may have sent the service a descriptor of it and can do so again",
        )
    } else {
        None
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
