// SPDX-License-Identifier: MIT OR Apache-2.0

//! The sentences, with names that stay on their line and commands that a shell takes.

use std::path::Path;

use super::{Evidence, Severity};
use crate::model::bytes::{Bytes, Units, grouped};
use crate::model::capacity::Capacity;
use crate::model::escape;
use crate::model::limits::{Amount, Chunks, Device, Image, Owner, Quota, Refusal};
use crate::model::traits::{Command, Operands, Tools};

/// What the sentences call the filesystem.
pub(super) struct Names<'a> {
    source: &'a Path,
    path: &'a Path,
    /// As a shell takes it.
    mountpoint: String,
    tools: Tools,
}

fn size(bytes: Bytes) -> String {
    Units::Binary.format(bytes)
}

/// A path as a shell takes it.
fn word(path: &Path) -> String {
    escape::shell_path(path, true)
}

/// A number one and a half times as large, in whole MiB: what a limit may be raised to.
fn raised(bytes: Bytes) -> String {
    let mib = bytes.0.div_ceil(1 << 20);
    format!("{}M", mib.saturating_add(mib.div_ceil(2)))
}

pub(super) fn memory(used: Bytes, all: Bytes) -> String {
    let percent = super::percent(used, all).unwrap_or(0);
    format!(
        "its files take up {} of memory or swap, {percent} % of the machine's {}, until they are deleted",
        size(used),
        size(all)
    )
}

pub(super) fn absurd(whole: Bytes, free: Bytes) -> String {
    format!(
        "what it says of itself cannot be true: of {} {} are said to be free; figures that no filesystem can have \
         are cut, and no sum can be right",
        size(whole),
        size(free)
    )
}

pub(super) fn image(image: &Image, needed: Bytes) -> String {
    format!(
        "its disk is the sparse file {}, which may still need {}, but only {} are available where that file \
         is stored: make room there, or writing here fails",
        escape::path(&image.path),
        size(needed),
        size(image.available)
    )
}

/// A filter (btrfs-balance(8)) that takes the chunks that are not fuller than the average, of which there
/// is always one, and no more of them than it takes to get two back.
fn balance(chunks: &Chunks) -> String {
    let average = super::percent(chunks.data_used, chunks.data).unwrap_or(0);
    let usage = average.min(98) + 1;
    let limit = 200_u64.div_ceil(100 - usage);
    format!("{usage},limit={limit}")
}

impl<'a> Names<'a> {
    pub(super) fn of(evidence: &Evidence<'a>) -> Self {
        Self {
            source: evidence.source,
            path: evidence.mountpoint,
            mountpoint: word(evidence.mountpoint),
            tools: evidence.traits.tools,
        }
    }

    /// A command with what is mounted, where that is, and `number` put in; `None` where the filesystem has no
    /// such command.
    fn line(&self, command: Option<Command>, number: u64) -> Option<String> {
        Some(command?.line(&Operands { device: self.source, mountpoint: self.path, number }))
    }

    /// How to have it checked, which takes that it is not mounted.
    fn check(&self) -> String {
        let is_root = self.path == Path::new("/");
        match self.line(self.tools.repair, 1) {
            Some(_) if is_root && self.tools.is_repaired_at_boot => {
                "have it checked at the next start with fsck.mode=force on the kernel's command line"
                    .to_owned()
            }
            Some(command) if is_root => format!("start another system and run `{command}`"),
            Some(command) => format!("unmount it and run `{command}`"),
            None if is_root => "have it checked from another system".to_owned(),
            None => "unmount it and have it checked".to_owned(),
        }
    }

    pub(super) fn refusal(&self, refusal: Refusal, errors: Option<u64>) -> String {
        let noted = errors.map(|errors| format!(" ({errors} noted so far)")).unwrap_or_default();
        match refusal {
            Refusal::ReadOnly => {
                format!("the kernel has made it read-only after an error{noted}: {}", self.check())
            }
            Refusal::ShutDown => format!(
                "the kernel has shut it down{noted}, nothing on it can be read or written: {}",
                self.check()
            ),
        }
    }

    pub(super) fn counters(&self, whole: Bytes, free: Bytes) -> String {
        let (size, free) = (size(whole), size(free));
        format!(
            "its own counters are wrong, so no sum can be right: they say that {free} of {size} are free: {}",
            self.check()
        )
    }

    pub(super) fn errors(&self, errors: u64) -> String {
        let what = if errors == 1 { "an error was".to_owned() } else { format!("{errors} errors were") };
        format!("{what} found in it since its last repair: {}", self.check())
    }

    pub(super) fn metadata(&self, chunks: &Chunks, severity: Severity) -> String {
        let at = &self.mountpoint;
        let (state, without_space) = match severity {
            Severity::Warning => {
                (format!("its metadata can grow by only {}", size(chunks.metadata_left)), String::new())
            }
            Severity::Critical => (
                "its metadata is full, and it may refuse to store anything".to_owned(),
                format!(
                    "; if that fails for lack of space, try -dusage=0, which needs none, delete files, or lend \
                     it a disk with `btrfs device add DEVICE {at}` until `btrfs device remove DEVICE {at}`"
                ),
            ),
        };
        format!(
            "{state}, though {} that are set aside for data are unused: `btrfs balance start -dusage={} {at}` \
             gives some of that back by moving data together, which keeps the disk busy{without_space}",
            size(chunks.data.saturating_sub(chunks.data_used)),
            balance(chunks)
        )
    }

    pub(super) fn snapshots(&self, count: usize) -> String {
        let (what, keep) = if count == 1 { ("a snapshot", "keeps") } else { ("snapshots", "keep") };
        let number = if count == 1 { String::new() } else { format!("{} ", grouped(count as u64)) };
        format!(
            "{number}{what} {keep} files that are deleted or overwritten elsewhere, and their space: `btrfs \
             subvolume list -s {}` lists them, and `btrfs subvolume delete PATH` deletes one and frees, \
             little by little, what only that one has",
            self.mountpoint
        )
    }

    pub(super) fn inodes(&self, free: u64, all: u64) -> String {
        let advice = match self.line(self.tools.add_inodes, all.saturating_mul(2)) {
            Some(command) => format!("`{command}` allows more"),
            None => "each file takes one, so delete files, however small".to_owned(),
        };
        format!("out of inodes, not of space: {free} of {all} inodes are free; {advice}")
    }

    pub(super) fn reserve(&self, capacity: &Capacity, is_large: bool) -> String {
        let advice = match self.line(self.tools.shrink_reserve, 1) {
            Some(command) if is_large => format!("`{command}` reserves 1 % only"),
            _ => "delete files".to_owned(),
        };
        let whom = capacity.reserved_for;
        format!(
            "only the {} of {} that are reserved for {whom} are left, so nobody else can write: {advice}",
            size(capacity.figures.reserved),
            size(capacity.figures.size)
        )
    }

    pub(super) fn memory_limit(&self, left: Bytes, limit: Bytes) -> String {
        format!(
            "only {} of the {} that it may hold are left: `mount -o remount,size={} {}` raises the limit, but \
             its files take up memory",
            size(left),
            size(limit),
            raised(limit),
            self.mountpoint
        )
    }

    pub(super) fn directory(&self, path: &Path, length: Bytes, limit: Bytes) -> String {
        let command = self.line(self.tools.unlimited_directories, 1);
        let advice = command.map(|command| format!(": `{command}` lifts that")).unwrap_or_default();
        format!(
            "the directory {} cannot grow: its names take up {} and max_dir_size_kb allows {}{advice}",
            escape::path(path),
            size(length),
            size(limit),
        )
    }

    pub(super) fn directory_index(&self, path: &Path, length: Bytes, percent: u64) -> String {
        let command = self.line(self.tools.large_directories, 1);
        let or =
            command.map(|command| format!(", or run `{command}` and mount it again")).unwrap_or_default();
        format!(
            "the directory {} may refuse new names: they take up {} and its index is {percent} % full; spread \
             its files over several directories{or}",
            escape::path(path),
            size(length),
        )
    }

    pub(super) fn quota(&self, quota: &Quota, more: usize) -> String {
        let (owner, command) = self.owner(&quota.owner);
        let (used, limit) = match quota.amount {
            Amount::Bytes => (size(Bytes(quota.used)), size(Bytes(quota.limit))),
            Amount::Inodes => (grouped(quota.used), format!("{} files", grouped(quota.limit))),
        };
        let state = if quota.refuses { "is used up" } else { "is nearly used up" };
        let state = if quota.used > quota.limit && !quota.refuses {
            "is exceeded, which is allowed for a time only"
        } else {
            state
        };
        let more = match more {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("the quota of {owner} {state}, {used} of {limit}{more}: `{command}` changes it")
    }

    fn owner(&self, owner: &Owner) -> (String, String) {
        let edit = |kind: &str, name: &str, option: &str| {
            let command = format!("edquota {option} {}", escape::shell(name, true));
            (format!("{kind} {}", escape::bytes(name.as_bytes())), command)
        };
        match owner {
            Owner::User(name) => edit("user", name, "-u"),
            Owner::Group(name) => edit("group", name, "-g"),
            Owner::Project(id) => edit("project", &id.to_string(), "-P"),
            Owner::Qgroup(id) => {
                let command = format!("btrfs qgroup limit SIZE {id} {}", self.mountpoint);
                (format!("qgroup {id}"), command)
            }
        }
    }

    pub(super) fn never_grown(&self, device: &Device) -> String {
        let on = Operands { device: &device.node, mountpoint: self.path, number: device.number };
        let command = self.tools.grow.map(|command| format!(": `{}` gives it the rest", command.line(&on)));
        let advice = command.unwrap_or_default();
        format!(
            "it takes up only {} of {}, which has {}{advice}",
            size(device.used),
            escape::path(&device.node),
            size(device.size)
        )
    }
}
