//! Who holds inodes that have no name left: found in /proc, decided by the link
//! count of the thing itself, and only then described.

pub mod cgroup;
pub mod describe;
mod places;
mod proc_maps;
mod process;
mod scan;

use std::path::PathBuf;

use nix::errno::Errno;

use crate::skip::Skip;
use crate::sys::Dev;
use crate::sys::stat::Stat;

pub use places::Places;
pub use scan::scan;

/// An inode without a name, and all who were found to hold it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The inode, as the kernel described it.
    pub stat: Stat,
    /// Its last name as /proc shows it; `None` if it never had one (`O_TMPFILE`).
    pub path: Option<PathBuf>,
    /// At least one.
    pub holds: Vec<Hold>,
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

/// The ways to hold an inode.
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
}

impl Via {
    /// The most useful first: what can be copied from, then what tells most.
    fn rank(self) -> u8 {
        match self {
            Self::Descriptor { .. } => 0,
            Self::Executable => 1,
            Self::Mapping => 2,
            Self::WorkingDirectory => 3,
            Self::RootDirectory => 4,
        }
    }
}

/// What fdinfo says of a descriptor: `proc_pid_fdinfo(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DescriptorInfo {
    /// The flags of open(2), with `O_CLOEXEC`.
    pub flags: i32,
    /// The file offset.
    pub position: u64,
}

/// What one scan of /proc came to.
#[derive(Debug, Default)]
pub struct Scan {
    /// Inodes without a name on the filesystems asked for, each once.
    pub held: Vec<Held>,
    /// How many processes were read.
    pub processes: u64,
    /// Those that could not be, and deleted files that are mapped and could not be looked at.
    pub skips: Vec<Skip>,
}

/// A mapping of a deleted file of which only /proc/PID/maps tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unseen {
    /// As in maps, which on btrfs is not the inode's own device.
    dev: Dev,
    inode: u64,
    /// The name as in maps, without " (deleted)".
    path: PathBuf,
    /// Why its inode could not be looked at.
    errno: Errno,
}
