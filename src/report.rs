//! The report: one data model behind every output. The names of its fields are a
//! contract; within one schema version they are only ever added to.

mod actions;
pub mod flags;
pub mod json;
mod remedy;
mod serialize;
pub mod text;

pub use actions::{Copied, Index, Method as CopyMethod, Recovered, ReleaseMethod, Released, Saved};
pub use remedy::{Action, Remedy};
pub use serialize::timestamp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use crate::holders::Identity;
use crate::holders::cgroup::Runtime;
use crate::model::bytes::{Bytes, Gap};
use crate::model::ledger::{Basis, Cause};
use crate::model::traits::Traits;

/// The version of the names.
pub const SCHEMA_VERSION: u32 = 1;

/// What one run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run itself.
    #[serde(flatten)]
    pub run: Run,
    /// In the order asked for.
    pub filesystems: Vec<Filesystem>,
}

/// What is told of every run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Who made it.
    pub tool: Tool,
    /// The machine's name.
    pub host: String,
    /// When the run began.
    #[serde(serialize_with = "serialize::time")]
    pub started: SystemTime,
    /// When it ended.
    #[serde(serialize_with = "serialize::time")]
    pub finished: SystemTime,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Whether it ran as root: where not, that is the first thing to try.
    pub as_root: bool,
    /// False as soon as anything was skipped, or the run interrupted.
    pub complete: bool,
    /// Whether it was ended early: then nothing is more than a lower bound.
    pub interrupted: bool,
}

/// The program that made a report.
#[derive(Clone, Debug, Serialize)]
pub struct Tool {
    /// `whyfull`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        Self { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }
    }
}

/// What the command `deleted` found.
#[derive(Clone, Debug, Serialize)]
pub struct Deleted {
    /// The run itself.
    #[serde(flatten)]
    pub run: Run,
    /// Time between the two looks that `grown_bytes` compares.
    pub interval_ms: Option<u64>,
    /// The filesystems looked at, with what is held on each.
    pub filesystems: Vec<HeldOn>,
    /// Inodes without a name, each once, largest first.
    pub holders: Vec<Holder>,
    /// The same, added up as asked for; empty unless asked.
    pub sums: Vec<Sum>,
    /// How many processes were looked into.
    pub processes_read: u64,
    /// What could not be looked at.
    pub skipped: Vec<Skipped>,
}

/// What is held on one filesystem.
#[derive(Clone, Debug, Serialize)]
pub struct HeldOn {
    /// Where it is mounted.
    #[serde(flatten, serialize_with = "serialize::mountpoint")]
    pub mountpoint: PathBuf,
    /// Its type.
    pub fstype: String,
    /// Whether its files take up memory instead of a disk.
    pub in_memory: bool,
    /// Allocated bytes without a name.
    pub bytes: Bytes,
    /// Inodes without a name.
    pub inodes: u64,
    /// Where no holder was found for some of them: what may hold them.
    pub unattributed_reasons: Vec<UnattributedReason>,
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
    pub kernel: Option<&'static str>,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

/// One filesystem explained.
#[derive(Clone, Debug, Serialize)]
pub struct Filesystem {
    /// Where the walk started.
    #[serde(flatten, serialize_with = "serialize::mountpoint")]
    pub mountpoint: PathBuf,
    /// The part of the filesystem that is mounted there.
    #[serde(flatten, serialize_with = "serialize::root")]
    pub root: PathBuf,
    /// What is mounted.
    #[serde(flatten, serialize_with = "serialize::source")]
    pub source: PathBuf,
    /// Its type.
    pub fstype: String,
    /// What sets that type apart.
    #[serde(skip)]
    pub traits: Traits,
    /// `major:minor`.
    pub dev: String,
    /// Set where PATH was on an overlay that keeps its files here.
    pub overlay: Option<Overlay>,
    /// What `df` prints.
    pub capacity: Capacity,
    /// How visible bytes were counted.
    pub method: Method,
    /// Why a faster way to count could not be taken.
    pub method_note: Option<String>,
    /// Why the kernel did not confine the threads that read the filesystem's tables, where it did not.
    pub unconfined_note: Option<String>,
    /// What `du -sx` of the mount point prints.
    pub visible_bytes: Bytes,
    /// `used - visible`.
    pub gap_bytes: Gap,
    /// Rows that add up to `used`.
    pub ledger: Vec<Row>,
    /// How much of the unexplained may come from changes during the run and from what was skipped.
    pub unexplained_bound_bytes: Bytes,
    /// Inodes without a name, each once, largest first.
    pub holders: Vec<Holder>,
    /// Where no holder was found for some of them: what may hold them.
    pub unattributed_reasons: Vec<UnattributedReason>,
    /// What each mount point hides.
    pub hidden: Vec<Hidden>,
    /// The largest visible directories, cumulative like du.
    pub directories: Vec<Directory>,
    /// Why it may be full when bytes are not the reason.
    pub findings: Vec<Finding>,
    /// What would free space: in groups, of which the one that frees most stands first, and in each from the
    /// least harmful on.
    pub remedies: Vec<Remedy>,
    /// How many processes were looked into.
    pub processes_read: u64,
    /// What could not be looked at.
    pub skipped: Vec<Skipped>,
}

/// Something that was seen, or could not be, and may be what holds an inode without a known holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnattributedReason {
    /// What it is.
    pub reason: Reason,
    /// How many there are.
    pub count: u64,
}

/// Why a holder may not have been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
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

/// The overlay through which a path was named.
#[derive(Clone, Debug, Serialize)]
pub struct Overlay {
    /// Where it is mounted.
    #[serde(flatten, serialize_with = "serialize::mountpoint")]
    pub mountpoint: PathBuf,
    /// Its upper directory.
    #[serde(flatten, serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// Allocated bytes in that and in its work directory; none where they were not seen.
    pub upper_bytes: Option<Bytes>,
    /// Inodes there.
    pub upper_inodes: Option<u64>,
}

/// What `df` prints, in bytes, and what it does not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Capacity {
    /// `f_blocks`.
    pub size_bytes: Bytes,
    /// `f_blocks - f_bfree`; what was found to be used where a tmpfs without a limit counts nothing.
    pub used_bytes: Bytes,
    /// `f_bfree`.
    pub free_bytes: Bytes,
    /// `f_bavail`.
    pub available_bytes: Bytes,
    /// `f_bfree - f_bavail`.
    pub reserved_bytes: Bytes,
    /// The user that may use what is reserved on ext2/3/4, where that is not root.
    pub reserved_uid: Option<u32>,
    /// The group that may.
    pub reserved_gid: Option<u32>,
    /// `f_files`.
    pub inodes: u64,
    /// `f_ffree`.
    pub inodes_free: u64,
    /// The size of the device, or of all devices of the filesystem; none where that is not known.
    pub device_bytes: Option<Bytes>,
    /// What of that is not in `size_bytes`: where it is told, both add up to `device_bytes`, always.
    pub uncounted: Option<Vec<Detail>>,
    /// What ext2/3/4 set aside for root, or for `reserved_uid` and `reserved_gid`. Both these reserves may be
    /// more than is free; `reserved_bytes` is not.
    pub reserved_blocks_bytes: Option<Bytes>,
    /// What ext4 sets aside for itself.
    pub reserved_clusters_bytes: Option<Bytes>,
}

impl Capacity {
    /// Whom it is reserved for on ext2/3/4.
    pub fn reserved_for(&self) -> String {
        match (self.reserved_uid, self.reserved_gid) {
            (None, None) => "root".to_owned(),
            (None, Some(gid)) => format!("root and GID {gid}"),
            (Some(uid), None) => format!("UID {uid}"),
            (Some(uid), Some(gid)) => format!("UID {uid} and GID {gid}"),
        }
    }
}

/// How visible bytes were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By walking the names.
    Walk,
    /// From the filesystem's inode tables and the blocks of its directories.
    InodeTable,
}

/// A row of the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it counts.
    pub cause: Cause,
    /// How much.
    pub bytes: Gap,
    /// How far to trust it.
    pub basis: Basis,
    /// How many inodes, where they were counted.
    pub inodes: Option<u64>,
    /// What it consists of, where that is known.
    pub detail: Vec<Detail>,
}

/// A part of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    /// What.
    pub name: String,
    /// How much.
    pub bytes: Gap,
}

/// An inode without a name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Holder {
    /// `major:minor` of the filesystem that has its blocks.
    pub dev: String,
    /// Its number.
    pub inode: u64,
    /// `file`, `directory`, ...
    pub kind: &'static str,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Apparent size.
    pub size_bytes: Bytes,
    /// Whose it is, by number.
    #[serde(skip)]
    pub uid: u32,
    /// As last named; none if it never had a name, or where `name_unknown` says that nobody tells it.
    #[serde(flatten, serialize_with = "serialize::optional_path")]
    pub path: Option<PathBuf>,
    /// Why its last name is not known; none where `path` tells it, and if it never had one.
    pub name_unknown: Option<NameUnknown>,
    /// How much it has grown between two looks, where there were two.
    pub grown_bytes: Option<Gap>,
    /// Last modification; none where the clock was far off.
    #[serde(serialize_with = "serialize::optional_time")]
    pub written: Option<SystemTime>,
    /// Set for a file of a deleted btrfs subvolume: its bytes are the least that comes free with it.
    pub in_deleted_subvolume: bool,
    /// The number of that subvolume, if the kernel tells.
    pub subvolume: Option<u64>,
    /// Who holds it; none where only the filesystem lists it.
    pub held_by: Vec<HeldBy>,
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

impl Holder {
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

/// One holder of one inode.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HeldBy {
    /// A process.
    Process(Process),
    /// The kernel itself, for no process.
    Kernel(Kernel),
}

/// Something in the kernel that holds an inode.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kernel {
    /// `loop`, `mount`, `binfmt_misc`, `uprobe` or `swap`.
    pub via: &'static str,
    /// The device, the mount point and how to get there, the entry, the event, the swap file.
    pub name: String,
    /// Whether it is a mount that can be unmounted.
    #[serde(skip)]
    pub can_be_unmounted: bool,
}

/// A process that holds an inode.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The thread, where not the whole process holds it.
    pub tid: Option<i32>,
    /// The descriptor: of the file, or of the socket or `io_uring` that has it inside.
    pub fd: Option<u32>,
    /// `fd`, `map`, `cwd`, `root`, `exe`, `socket` or `io_uring`.
    pub via: &'static str,
    /// How the descriptor was opened: `O_RDWR|O_APPEND`.
    pub flags: Option<String>,
    /// The descriptor's offset.
    pub position: Option<u64>,
    /// The command's name, which the process itself may choose.
    pub command: Option<String>,
    /// What the process cannot choose.
    #[serde(skip)]
    pub identity: Arc<Identity>,
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
    /// What runs that container, if root can tell it to.
    #[serde(skip)]
    pub runtime: Option<Runtime>,
    /// The Kubernetes pod's uid.
    pub pod: Option<String>,
}

/// What a mount point hides.
#[derive(Clone, Debug, Serialize)]
pub struct Hidden {
    /// Where it is.
    #[serde(flatten, serialize_with = "serialize::mountpoint")]
    pub mountpoint: PathBuf,
    /// Allocated bytes beneath it, the covered directory included.
    pub bytes: Bytes,
    /// Inodes beneath it.
    pub inodes: u64,
    /// The largest names beneath it, as they would be without the mount; none unless asked for.
    pub largest: Option<Vec<Entry>>,
}

/// A name that is not visible.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// A file or directory.
    #[serde(flatten, serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// Allocated bytes; of a directory with all below it.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

/// A visible directory with all below it.
#[derive(Clone, Debug, Serialize)]
pub struct Directory {
    /// Where it is.
    #[serde(flatten, serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

/// A reason why a filesystem may refuse to store anything though bytes are left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub code: FindingCode,
    /// How bad.
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
}

/// The reasons that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// Hardly an inode is free.
    InodesExhausted,
    /// What is free is reserved: for root, or for whom the filesystem says.
    OnlyReserveLeft,
    /// The kernel lets nothing be written since it met an error.
    ReadOnlyAfterErrors,
    /// The filesystem has noted errors in itself.
    ErrorsNoted,
    /// What the filesystem says of its size and of what is free cannot both be true.
    CountersWrong,
    /// A directory is as large as the mount's options allow.
    DirectoryAtLimit,
    /// The index of a directory may have no room for another name.
    DirectoryIndexFull,
    /// A quota is used up, or is about to be.
    QuotaReached,
    /// The device is larger than the filesystem on it.
    NeverGrown,
    /// The sparse file behind it may not find the space that it still needs.
    ImageWithoutSpace,
    /// btrfs has no space left for metadata, though its data has.
    MetadataFull,
    /// btrfs has snapshots, and is short of space.
    SnapshotsKept,
    /// A filesystem in memory has reached the size it may have.
    MemoryLimitReached,
    /// A filesystem in memory takes up a large part of the memory.
    MemoryTaken,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It will fail soon.
    Warning,
    /// It fails now.
    Critical,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// Of which kind.
    #[serde(serialize_with = "serialize::kind")]
    pub kind: crate::model::skips::Kind,
    /// Where it is.
    #[serde(flatten, serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// What the system call said: `EACCES`; none where nothing failed.
    pub errno: Option<String>,
    /// The capability that would unlock it.
    pub needs: Option<&'static str>,
    /// The number of the inode, where that is known and it may be damaged.
    pub inode: Option<u64>,
    /// Where it is damaged: the command that says how, and changes nothing.
    pub check: Option<Vec<String>>,
}
