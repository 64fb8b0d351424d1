// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who alone keeps a file, and with it what ends that.

use super::daemons::{Reopener, reopener};
use crate::model::deleted::{DeletedFile, DeletedSubvolume, Holder, KernelVia, ProcessHolder, Via};
use crate::model::process::{Runtime, Service};

/// From here on user ids are people's, and below the system's own: login.defs(5), `UID_MIN`.
const PEOPLE_FROM: u32 = 1000;

/// Who alone keeps some files in use, as far as there is a command for it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SoleHolder<'a> {
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
    Nobody { subvolume: Option<DeletedSubvolume>, inode: u64 },
}

impl<'a> SoleHolder<'a> {
    pub(super) fn of(file: &'a DeletedFile) -> Self {
        let can_be_unmounted =
            |holder: &Holder| matches!(holder, Holder::Kernel(kernel) if kernel.mounted.is_some());
        let nobody = Self::Nobody { subvolume: file.deleted_subvolume, inode: file.inode };
        match file.held_by.as_slice() {
            [Holder::Kernel(kernel)] if kernel.via == KernelVia::Loop => Self::Loop(&kernel.name),
            // Numbers of a deleted subvolume are in no list.
            mounts @ [_, ..] if mounts.iter().all(can_be_unmounted) && file.deleted_subvolume.is_none() => {
                Self::Mounts { inode: file.inode }
            }
            _ => processes(file).and_then(|processes| Self::of_processes(&processes)).unwrap_or(nobody),
        }
    }

    fn of_processes(processes: &[&'a ProcessHolder]) -> Option<Self> {
        let first = processes.first()?;
        // Whoever can connect to a process can send it a descriptor: it need not know of the file.
        if processes.iter().any(|process| matches!(process.hold.via, Via::Socket { .. })) {
            return None;
        }
        let membership = &first.process.membership;
        if let Some(id) = membership.container.as_deref() {
            let memberships = || processes.iter().map(|holder| &holder.process.membership);
            let all = memberships().all(|other| other.container == membership.container);
            let is_nested = memberships().any(|other| other.nested_container.is_some());
            return membership.runtime.filter(|_| all).map(|runtime| Self::Container {
                runtime,
                id,
                is_nested,
            });
        }
        // Not those inside a container, where the system's manager does not reach.
        let same = |holder: &&ProcessHolder| {
            unit(holder) == unit(first) && holder.process.membership.container.is_none()
        };
        if !processes.iter().all(same) {
            return None;
        }
        if let Some(service) = &first.process.identity.service {
            // What others have it run (cron, a web server) may not end with it.
            let its_own = |holder: &&ProcessHolder| is_its_own(holder, service);
            return processes.iter().any(its_own).then_some(Self::Service(&service.unit));
        }
        let daemon = reopener(processes).filter(|daemon| daemon.all_take_it);
        daemon.map(|_| {
            let mut pids: Vec<i32> = processes.iter().map(|holder| holder.hold.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            Self::Daemon(pids)
        })
    }
}

fn unit(holder: &ProcessHolder) -> Option<&str> {
    holder.process.identity.service.as_ref().map(|service| service.unit.as_str())
}

/// Whether the service runs that process for itself: as the one user that it runs as, or as one of the
/// system's.
fn is_its_own(holder: &ProcessHolder, service: &Service) -> bool {
    holder.process.identity.uid.is_some_and(|uid| uid < PEOPLE_FROM || service.uid == Some(uid))
}

/// What to know before a service is restarted for the sake of a file that may not be its own.
pub(super) fn foreign(file: &DeletedFile) -> Option<&'static str> {
    let processes = processes(file)?;
    let is_anothers = |holder: &&ProcessHolder| {
        holder.process.identity.service.as_ref().is_some_and(|service| !is_its_own(holder, service))
    };
    let opened_by_its_owner = |holder: &&ProcessHolder| holder.process.identity.uid == Some(file.uid);
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
pub(super) fn writer(file: &DeletedFile) -> Option<&'static Reopener> {
    reopener(&processes(file)?)
}

/// All that hold a file, where all of them are processes: what the kernel holds stays when a process has ended.
fn processes(file: &DeletedFile) -> Option<Vec<&ProcessHolder>> {
    file.kernel().next().is_none().then(|| file.processes().collect())
}
