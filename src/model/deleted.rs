// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deleted files that still take up space, and those who hold them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::bytes::{Bytes, Gap};
use crate::model::identity::DeviceNumber;
use crate::model::last_name::LastName;
use crate::model::open_flags::OpenFlags;
use crate::model::process::Process;

/// An inode without a name that has not been freed.
#[derive(Clone, Debug, Default)]
pub struct DeletedFile {
    /// The filesystem that has its blocks.
    pub dev: DeviceNumber,
    /// Its number.
    pub inode: u64,
    /// What it is.
    pub kind: FileKind,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Apparent size.
    pub size: Bytes,
    /// The user that owns it.
    pub uid: u32,
    /// Its last name.
    pub name: LastName,
    /// How much it has grown between two scans, where there were two.
    pub grown: Option<Gap>,
    /// Last modification; none where that is no time that can be printed.
    pub written: Option<SystemTime>,
    /// Set for a file of a deleted btrfs subvolume: its bytes are the least that comes free with it.
    pub deleted_subvolume: Option<DeletedSubvolume>,
    /// Who holds it; none where only the filesystem lists it.
    pub held_by: Vec<Holder>,
}

impl DeletedFile {
    /// The processes that hold it.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessHolder> {
        self.held_by.iter().filter_map(|holder| match holder {
            Holder::Process(process) => Some(process),
            Holder::Kernel(_) => None,
        })
    }

    /// What of the kernel holds it, for no process.
    pub fn kernel(&self) -> impl Iterator<Item = &KernelHolder> {
        self.held_by.iter().filter_map(|holder| match holder {
            Holder::Process(_) => None,
            Holder::Kernel(kernel) => Some(kernel),
        })
    }
}

/// A btrfs subvolume that was deleted and is kept because one of its files is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeletedSubvolume {
    /// Its number; `None` before Linux 6.10, which does not tell.
    pub number: Option<u64>,
}

/// The type in `st_mode`: inode(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileKind {
    /// An ordinary file.
    #[default]
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// The kind that `st_mode` tells.
    pub fn of_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharacterDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => Self::File,
        }
    }
}

/// One holder of one deleted file.
#[derive(Clone, Debug)]
pub enum Holder {
    /// A process.
    Process(ProcessHolder),
    /// The kernel itself, for no process.
    Kernel(KernelHolder),
}

/// A process that holds a deleted file, and how it does.
#[derive(Clone, Debug)]
pub struct ProcessHolder {
    /// How.
    pub hold: Hold,
    /// Who it is.
    pub process: Arc<Process>,
}

/// One way in which one process holds an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// The process.
    pub pid: i32,
    /// The thread, where it is not the whole process that holds it.
    pub tid: Option<i32>,
    /// How.
    pub via: Via,
}

impl Hold {
    /// The number below /proc whose tables show it: the thread's where a thread alone holds it.
    pub fn task(&self) -> i32 {
        self.tid.unwrap_or(self.pid)
    }
}

/// The ways in which a process can hold an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// An open descriptor.
    Descriptor {
        /// Its number.
        number: u32,
        /// Open flags and offset, where fdinfo could be read.
        info: Option<DescriptorInfo>,
    },
    /// Mapped memory.
    Mapping,
    /// The running program.
    Executable,
    /// The working directory.
    WorkingDirectory,
    /// The root directory.
    RootDirectory,
    /// A message that waits in the queue of a socket.
    Socket {
        /// The socket's descriptor.
        number: u32,
    },
    /// Registration with an `io_uring`.
    IoUring {
        /// The ring's descriptor.
        number: u32,
    },
}

impl Via {
    /// The most useful first: those that can be copied from, then those that tell most.
    pub fn rank(self) -> u8 {
        match self {
            Self::Descriptor { .. } => 0,
            Self::Executable => 1,
            Self::Mapping => 2,
            Self::WorkingDirectory => 3,
            Self::RootDirectory => 4,
            Self::Socket { .. } => 5,
            Self::IoUring { .. } => 6,
        }
    }

    /// The descriptor: of the file, or of the socket or `io_uring` that has it inside.
    pub fn descriptor(self) -> Option<u32> {
        match self {
            Self::Descriptor { number, .. } | Self::Socket { number } | Self::IoUring { number } => {
                Some(number)
            }
            Self::Mapping | Self::Executable | Self::WorkingDirectory | Self::RootDirectory => None,
        }
    }

    /// Flags and offset of an open descriptor, where they are known.
    pub fn info(self) -> Option<DescriptorInfo> {
        match self {
            Self::Descriptor { info, .. } => info,
            _ => None,
        }
    }
}

/// What fdinfo says of a descriptor: `proc_pid_fdinfo(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DescriptorInfo {
    /// How it was opened.
    pub flags: OpenFlags,
    /// The file offset.
    pub position: u64,
}

/// Something in the kernel that holds an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelHolder {
    /// How.
    pub via: KernelVia,
    /// The device, the mount point and how to get there, the entry, the event, the swap file.
    pub name: String,
    /// Where it can be unmounted, if it is a mount that is what is seen at its mount point.
    pub mounted: Option<MountedAt>,
}

impl KernelHolder {
    /// One that cannot be unmounted.
    pub fn new(via: KernelVia, name: String) -> Self {
        Self { via, name, mounted: None }
    }
}

/// The ways in which the kernel can hold an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelVia {
    /// A loop device has it behind it.
    Loop,
    /// It is mounted: a directory, a file, or the image of a filesystem.
    Mount,
    /// It is the interpreter that an entry of `binfmt_misc` keeps open.
    BinfmtMisc,
    /// A probe is set in it.
    Uprobe,
    /// It is swap space.
    Swap,
}

impl KernelVia {
    /// The kernel's own word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Mount => "mount",
            Self::BinfmtMisc => "binfmt_misc",
            Self::Uprobe => "uprobe",
            Self::Swap => "swap",
        }
    }
}

/// A mount, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedAt {
    /// From the root of its mount namespace.
    pub point: PathBuf,
    /// Its number, as in mountinfo.
    pub mount: u64,
    /// The inode number of that namespace, where it is not our own.
    pub namespace: Option<u64>,
    /// A process in it, if there is one.
    pub task: Option<u32>,
}

/// Something that was seen, or could not be, and may be what holds an inode without a known holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnattributedReason {
    /// What it is.
    pub reason: Reason,
    /// How many there are.
    pub count: u64,
}

/// Why a holder may not have been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Processes that could not be inspected.
    ProcessesNotInspected,
    /// Processes that /proc does not list; how many is not known, it counts as one.
    ProcessesNotListed,
    /// Mapped files that could not be looked at.
    MappedFiles,
    /// Sockets whose queued descriptors could not all be looked at.
    SocketsWithQueuedDescriptors,
    /// `io_uring` instances with registered files that could not be told.
    IoUringRegisteredFiles,
    /// Deleted files that are open through overlays.
    FilesOpenThroughOverlays,
}
