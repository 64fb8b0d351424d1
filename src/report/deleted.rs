// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deleted files and those who hold them, as the report tells of them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::{names, serialize};
use crate::model::bytes::{Bytes, Gap};
use crate::model::deleted::{self, FileKind, KernelVia, Reason};
use crate::model::group_by;
use crate::model::last_name::LastName;

/// An inode without a name that is still held.
#[derive(Clone, Debug, Serialize)]
pub struct DeletedFile {
    /// `major:minor` of the filesystem that has its blocks.
    pub dev: String,
    /// Its number.
    pub inode: u64,
    /// `file`, `directory`, ...
    #[serde(serialize_with = "names::FileKind::serialize")]
    pub kind: FileKind,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Apparent size.
    pub size_bytes: Bytes,
    /// As last named; none if it never had a name, or where `name_unknown` says that nobody tells it.
    #[serde(flatten, serialize_with = "serialize::optional_path")]
    pub path: Option<PathBuf>,
    /// Why its last name is not known; none where `path` tells it, and if it never had one.
    pub name_unknown: Option<NameUnknown>,
    /// How much it has grown between two scans, where there were two.
    pub grown_bytes: Option<Gap>,
    /// Last modification; none where the clock was far off.
    #[serde(serialize_with = "serialize::optional_time")]
    pub written: Option<SystemTime>,
    /// Set for a file of a deleted btrfs subvolume: its bytes are the least that comes free with it.
    pub in_deleted_subvolume: bool,
    /// The number of that subvolume, if the kernel tells.
    pub subvolume: Option<u64>,
    /// Who holds it; none where only the filesystem lists it.
    pub held_by: Vec<Holder>,
}

impl From<&deleted::DeletedFile> for DeletedFile {
    fn from(file: &deleted::DeletedFile) -> Self {
        Self {
            dev: file.dev.to_string(),
            inode: file.inode,
            kind: file.kind,
            bytes: file.bytes,
            size_bytes: file.size,
            path: file.name.path().map(Path::to_path_buf),
            name_unknown: NameUnknown::of(&file.name),
            grown_bytes: file.grown,
            written: file.written,
            in_deleted_subvolume: file.deleted_subvolume.is_some(),
            subvolume: file.deleted_subvolume.and_then(|subvolume| subvolume.number),
            held_by: file.held_by.iter().map(Holder::from).collect(),
        }
    }
}

impl DeletedFile {
    /// What stands in place of a name that is not told.
    pub fn without_name(&self) -> String {
        let why = match self.name_unknown {
            None => "never named",
            Some(NameUnknown::TooLong) => "its name is too long to be told",
            Some(NameUnknown::NotTold) => "name not known",
        };
        format!("({why}) inode {}", self.inode)
    }
}

/// Why the last name of an inode is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameUnknown {
    /// The kernel tells no path of more than 4095 bytes.
    TooLong,
    /// Nobody has it open under a name, and the filesystem does not record it.
    NotTold,
}

impl NameUnknown {
    fn of(name: &LastName) -> Option<Self> {
        match name {
            LastName::Told(_) | LastName::Never => None,
            LastName::TooLong => Some(Self::TooLong),
            LastName::NotTold => Some(Self::NotTold),
        }
    }
}

/// One holder of one deleted file.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Holder {
    /// A process.
    Process(Process),
    /// The kernel itself, for no process.
    Kernel(Kernel),
}

impl From<&deleted::Holder> for Holder {
    fn from(holder: &deleted::Holder) -> Self {
        match holder {
            deleted::Holder::Process(holder) => Self::Process(holder.into()),
            deleted::Holder::Kernel(kernel) => {
                Self::Kernel(Kernel { via: kernel.via, name: kernel.name.clone() })
            }
        }
    }
}

/// Something in the kernel that holds an inode.
#[derive(Clone, Debug, Serialize)]
pub struct Kernel {
    /// How.
    #[serde(serialize_with = "names::of_kernel")]
    pub via: KernelVia,
    /// The device, the mount point and how to get there, the entry, the event, the swap file.
    pub name: String,
}

/// A process that holds an inode.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The thread, where not the whole process holds it.
    pub tid: Option<i32>,
    /// The descriptor: of the file, or of the socket or `io_uring` that has it inside.
    pub fd: Option<u32>,
    /// How.
    pub via: Via,
    /// How the descriptor was opened: `O_RDWR|O_APPEND`.
    pub flags: Option<String>,
    /// The descriptor's offset.
    pub position: Option<u64>,
    /// The command's name, which the process itself may choose.
    pub command: Option<String>,
    /// Whose it is.
    pub user: Option<String>,
    /// Since when it runs.
    #[serde(serialize_with = "serialize::optional_time")]
    pub started: Option<SystemTime>,
    /// The unit of the system's manager: `user@1000.service` for all that a user's own manager runs.
    pub unit: Option<String>,
    /// The container's id.
    pub container: Option<String>,
    /// The id of a container within that one, as whoever is root there has named it.
    pub nested_container: Option<String>,
    /// The Kubernetes pod's uid.
    pub pod: Option<String>,
}

/// The ways in which a process can hold an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// An open descriptor.
    Fd,
    /// Mapped memory.
    Map,
    /// The working directory.
    Cwd,
    /// The root directory.
    Root,
    /// The running program.
    Exe,
    /// A message that waits in the queue of a socket.
    Socket,
    /// Registration with an `io_uring`.
    IoUring,
}

impl From<&deleted::ProcessHolder> for Process {
    fn from(holder: &deleted::ProcessHolder) -> Self {
        let deleted::ProcessHolder { hold, process } = holder;
        let info = hold.via.info();
        let membership = &process.membership;
        Self {
            pid: hold.pid,
            tid: hold.tid,
            fd: hold.via.descriptor(),
            via: hold.via.into(),
            flags: info.map(|info| info.flags.to_string()),
            position: info.map(|info| info.position),
            command: process.command.clone(),
            user: process.user.clone(),
            started: process.started,
            unit: membership.unit.clone(),
            container: membership.container.clone(),
            nested_container: membership.nested_container.clone(),
            pod: membership.pod.clone(),
        }
    }
}

impl From<deleted::Via> for Via {
    fn from(via: deleted::Via) -> Self {
        match via {
            deleted::Via::Descriptor { .. } => Self::Fd,
            deleted::Via::Mapping => Self::Map,
            deleted::Via::Executable => Self::Exe,
            deleted::Via::WorkingDirectory => Self::Cwd,
            deleted::Via::RootDirectory => Self::Root,
            deleted::Via::Socket { .. } => Self::Socket,
            deleted::Via::IoUring { .. } => Self::IoUring,
        }
    }
}

/// Something that was seen, or could not be, and may be what holds an inode without a known holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnattributedReason {
    /// What it is.
    #[serde(serialize_with = "names::Reason::serialize")]
    pub reason: Reason,
    /// How many there are.
    pub count: u64,
}

impl From<deleted::UnattributedReason> for UnattributedReason {
    fn from(reason: deleted::UnattributedReason) -> Self {
        let deleted::UnattributedReason { reason, count } = reason;
        Self { reason, count }
    }
}

/// What one process or one unit holds. Files that several hold count for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// The process, where sums are by process.
    pub pid: Option<i32>,
    /// Its command; for what the kernel holds, the device, mount point, ... that does.
    pub command: Option<String>,
    /// The systemd unit; none for what belongs to no unit.
    pub unit: Option<String>,
    /// How the kernel holds it: `loop`, ...; none for what processes hold.
    #[serde(serialize_with = "names::of_optional_kernel")]
    pub kernel: Option<KernelVia>,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

impl From<group_by::Sum> for Sum {
    fn from(sum: group_by::Sum) -> Self {
        let group_by::Sum { group: group_by::Group { pid, command, unit, kernel }, bytes, inodes } = sum;
        Self { pid, command, unit, kernel, bytes, inodes }
    }
}
