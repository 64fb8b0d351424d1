// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who a process is: what it calls itself, and what it cannot choose.

use std::time::SystemTime;

/// What is told of a process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The command's name, as in `ps -o comm`: at most 15 bytes, and the process's own to choose.
    pub command: Option<String>,
    /// The user's name, or number where it has none.
    pub user: Option<String>,
    /// When it was started.
    pub started: Option<SystemTime>,
    /// Unit, container, pod.
    pub membership: Membership,
    /// What it cannot choose itself.
    pub identity: Identity,
}

/// Who a process is, whatever it calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name of the file that it runs. That may be a file of the user's.
    pub executable: Option<String>,
    /// The program that it runs, where it is one of the system's own.
    pub program: Option<Program>,
    /// The user's number; none of a process between two users.
    pub uid: Option<u32>,
    /// The service of the system's manager that it belongs to.
    pub service: Option<Service>,
}

/// A program of the system's own: a file in one of the system's directories that nobody but root can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file's name.
    pub name: String,
    /// As whom it runs: all of the process's user ids are this one.
    pub uid: u32,
    /// The same by name, or the number where it has none.
    pub user: String,
}

/// A service of the system's manager, as far as /proc tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its unit.
    pub unit: String,
    /// The program that it runs, if its main process can be nothing else: all its processes that no other
    /// of them has started run this one, as the same user.
    pub main: Option<Program>,
    /// As whom all of those run.
    pub uid: Option<u32>,
}

/// What a control group's path says of those in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The unit of the system's manager: `kafka.service`, `session-3.scope`, `user@1000.service`.
    pub unit: Option<String>,
    /// Whether that unit is a service below `system.slice`.
    pub is_system_service: bool,
    /// The id of the container that root's own runtime has made: 64 hex digits.
    pub container: Option<String>,
    /// The id that a group within that container claims: of a container that runs in it, if that is true.
    pub nested_container: Option<String>,
    /// What runs the outer container, where there is a command to tell it.
    pub runtime: Option<Runtime>,
    /// The uid of the Kubernetes pod that the outer container is in.
    pub pod: Option<String>,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// A kubelet, through the runtime of its node.
    Kubernetes,
}
