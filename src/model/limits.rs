// SPDX-License-Identifier: MIT OR Apache-2.0

//! What may keep a filesystem from storing anything though it has bytes left.

use std::path::PathBuf;

use crate::model::bytes::Bytes;
use crate::model::ledger::Term;

/// What is known of a filesystem's limits.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Whether the kernel refuses to write, on its own account.
    pub refuses: Option<Refusal>,
    /// How many errors the filesystem has noted since it was last repaired; only ext4 says.
    pub errors: Option<u64>,
    /// The largest that a directory may be by the mount's options.
    pub directory: Option<Bytes>,
    /// How large a directory can become before its index is full.
    pub directory_index: Option<Bytes>,
    /// The devices that the filesystem is on.
    pub devices: Vec<Device>,
    /// How large they are together, if that is known of each.
    pub device_size: Option<Bytes>,
    /// What of that `df` leaves out of the filesystem's size; `None` where that is not known in full.
    pub uncounted: Option<Vec<Term>>,
    /// What is kept from ordinary users.
    pub reserve: Option<Reserve>,
    /// The sparse file that stands in for its disk.
    pub image: Option<Image>,
    /// Quotas that are used up or nearly so.
    pub quotas: Vec<Quota>,
    /// The memory of the machine, for a filesystem that takes it up.
    pub memory: Option<Bytes>,
    /// How btrfs has handed out its devices.
    pub chunks: Option<Chunks>,
    /// How many snapshots btrfs has, besides the one that is mounted; only root can know.
    pub snapshots: Option<usize>,
}

/// Why the kernel refuses to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has made the filesystem read-only after an error.
    ReadOnly,
    /// It has shut the filesystem down: every access fails.
    ShutDown,
}

/// A device that is, or could be, used by the filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number within the filesystem.
    pub number: u64,
    /// Its node.
    pub node: PathBuf,
    /// How large it is.
    pub size: Bytes,
    /// How much of it the filesystem takes up.
    pub used: Bytes,
}

/// The file behind a loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// What it lacks of its full length: its holes.
    pub holes: Bytes,
    /// What the filesystem that it lies on still offers.
    pub available: Bytes,
}

/// What is not for everybody, as long as it is free. Both may be more than is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// For root, or whom the mount names.
    pub blocks: Bytes,
    /// For the filesystem itself.
    pub clusters: Bytes,
}

/// One thing of which no more than a certain amount may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Whose.
    pub owner: Owner,
    /// Of what, and how much.
    pub amount: Amount,
    /// In the unit of the amount.
    pub used: u64,
    /// The limit that has been reached, or nearly so.
    pub limit: u64,
    /// Whether more is refused now.
    pub refuses: bool,
}

/// Whose quota it is, by name, or by number where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user's.
    User(String),
    /// A group's.
    Group(String),
    /// That of a project, the directories marked as such.
    Project(u32),
    /// A btrfs qgroup's: `0/256`.
    Qgroup(String),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Space.
    Bytes,
    /// Files and directories.
    Inodes,
}

/// What has been handed out, and how full it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// All that is allocated for data.
    pub data: Bytes,
    /// What of it is in use.
    pub data_used: Bytes,
    /// What metadata can still grow by, in its chunks and in those that could still be allocated for it.
    pub metadata_left: Bytes,
    /// All that is allocated for metadata.
    pub metadata: Bytes,
    /// What a single operation may set aside of it at most before it begins.
    pub operation: Bytes,
}
