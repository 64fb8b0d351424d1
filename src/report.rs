// SPDX-License-Identifier: MIT OR Apache-2.0

//! The report: one data model behind every output. The names of its fields are a
//! contract; within one schema version they are only ever added to.

mod actions;
mod deleted;
pub mod json;
mod names;
mod serialize;
pub mod text;

pub use actions::{Copied, Index, Recovered, Released, Saved};
pub use deleted::{DeletedFile, Holder, Kernel, Process, Sum, UnattributedReason, Via};

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::model::bytes::{Bytes, Gap};
use crate::model::capability::{Capability, Effective};
use crate::model::findings::{FindingCode, Severity};
use crate::model::ledger::{Basis, Cause};
use crate::model::remedies::Action;
use crate::model::skips::{Kind, Skip};
use crate::model::traits::Traits;
use crate::model::{capacity, findings, ledger, remedies, usage};

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
    /// False if anything was skipped that could change the answer, or the run was interrupted.
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
    /// Deleted files that are still held, each inode once, largest first.
    pub deleted: Vec<DeletedFile>,
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
    /// Deleted files that are still held, each inode once, largest first.
    pub deleted: Vec<DeletedFile>,
    /// Where no holder was found for some of them: what may hold them.
    pub unattributed_reasons: Vec<UnattributedReason>,
    /// What each mount point hides.
    pub hidden: Vec<Hidden>,
    /// The largest visible directories, cumulative like du.
    pub directories: Vec<Entry>,
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

impl From<&capacity::Capacity> for Capacity {
    fn from(capacity: &capacity::Capacity) -> Self {
        let capacity::Figures { size, used, free, available, reserved, inodes, inodes_free } =
            capacity.figures;
        let capacity::ReserveOwner { uid, gid } = capacity.reserved_for;
        Self {
            size_bytes: size,
            used_bytes: used,
            free_bytes: free,
            available_bytes: available,
            reserved_bytes: reserved,
            reserved_uid: uid,
            reserved_gid: gid,
            inodes,
            inodes_free,
            device_bytes: capacity.device,
            uncounted: capacity.uncounted.as_deref().map(details),
            reserved_blocks_bytes: capacity.reserved_blocks,
            reserved_clusters_bytes: capacity.reserved_clusters,
        }
    }
}

impl Capacity {
    /// Whom it is reserved for on ext2/3/4.
    fn reserved_for(&self) -> capacity::ReserveOwner {
        capacity::ReserveOwner { uid: self.reserved_uid, gid: self.reserved_gid }
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
    #[serde(serialize_with = "names::Cause::serialize")]
    pub cause: Cause,
    /// How much.
    pub bytes: Gap,
    /// How far to trust it.
    #[serde(serialize_with = "names::Basis::serialize")]
    pub basis: Basis,
    /// How many inodes, where they were counted.
    pub inodes: Option<u64>,
    /// What it consists of, where that is known.
    pub detail: Vec<Detail>,
}

impl Row {
    /// A row that consists of `detail`.
    pub(crate) fn new(row: &ledger::Row, detail: &[capacity::Detail]) -> Self {
        let ledger::Row { cause, bytes, basis, inodes } = *row;
        Self { cause, bytes, basis, inodes, detail: details(detail) }
    }
}

/// A part of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    /// What.
    pub name: String,
    /// How much.
    pub bytes: Gap,
}

fn details(details: &[capacity::Detail]) -> Vec<Detail> {
    details.iter().map(|detail| Detail { name: detail.name.clone(), bytes: detail.bytes }).collect()
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

impl From<&usage::Hidden> for Hidden {
    fn from(hidden: &usage::Hidden) -> Self {
        let usage::Hidden { mountpoint, tally, largest } = hidden;
        Self {
            mountpoint: mountpoint.clone(),
            bytes: tally.bytes,
            inodes: tally.inodes,
            largest: largest.as_ref().map(|largest| largest.iter().map(Entry::from).collect()),
        }
    }
}

/// A file, or a directory with all below it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Where it is.
    #[serde(flatten, serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// Allocated bytes; of a directory with all below it.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

impl From<&usage::Entry> for Entry {
    fn from(entry: &usage::Entry) -> Self {
        let usage::Entry { path, tally } = entry;
        Self { path: path.clone(), bytes: tally.bytes, inodes: tally.inodes }
    }
}

/// A reason why a filesystem may refuse to store anything though bytes are left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    #[serde(serialize_with = "names::FindingCode::serialize")]
    pub code: FindingCode,
    /// How bad.
    #[serde(serialize_with = "names::Severity::serialize")]
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
}

impl From<findings::Finding> for Finding {
    fn from(finding: findings::Finding) -> Self {
        let findings::Finding { code, severity, message } = finding;
        Self { code, severity, message }
    }
}

/// One thing to do that would free space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// Those with the same number are about the same files: what they free is not to be added up.
    pub group: usize,
    /// Of which kind.
    #[serde(serialize_with = "names::Action::serialize")]
    pub action: Action,
    /// The file, where it is about one alone.
    pub inode: Option<u64>,
    /// What it gives back.
    pub frees_bytes: Bytes,
    /// The command as argv, never a shell string.
    pub command: Vec<String>,
    /// Whether the data in the deleted files is gone then.
    pub loses_data: bool,
    /// What to know first, for people.
    pub warning: Option<&'static str>,
}

impl From<remedies::Remedy> for Remedy {
    fn from(remedy: remedies::Remedy) -> Self {
        let remedies::Remedy { group, action, inode, frees, command, loses_data, warning } = remedy;
        Self { group, action, inode, frees_bytes: frees, command, loses_data, warning }
    }
}

/// Something that could not be looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// Of which kind.
    #[serde(serialize_with = "names::of_skip")]
    pub kind: Kind,
    /// Where it is.
    #[serde(flatten, serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// What the system call said: `EACCES`; none where nothing failed.
    pub errno: Option<String>,
    /// The capability that would unlock it.
    pub needs: Option<&'static str>,
    /// Whether it could change the answer: then the report is not complete.
    pub matters: bool,
    /// The number of the inode, where that is known and it may be damaged.
    pub inode: Option<u64>,
    /// Where it is damaged: the command that says how, and changes nothing.
    pub check: Option<Vec<String>>,
}

impl Skipped {
    /// A skip that `matters` or does not, in a run with these `rights`; `check` is the command that examines
    /// its filesystem.
    pub(crate) fn new(skip: &Skip, matters: bool, rights: Effective, check: Option<Vec<String>>) -> Self {
        Self {
            kind: skip.kind,
            path: skip.path.clone(),
            errno: skip.errno.map(|errno| format!("{errno:?}")),
            needs: skip.needs(rights).map(Capability::name),
            matters,
            inode: skip.inode.filter(|_| skip.is_damage()),
            check: check.filter(|_| skip.is_damage()),
        }
    }
}
