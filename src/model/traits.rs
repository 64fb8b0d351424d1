// SPDX-License-Identifier: MIT OR Apache-2.0

//! What sets one filesystem apart from another, as plain values. The drivers in `filesystems/` say it of
//! theirs; no other room knows a filesystem by the name of its type.

use std::path::Path;

use crate::model::escape;

/// What a driver says of the filesystems that it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Where the data of its files are.
    pub storage: Storage,
    /// Whether directories with device numbers of their own can lie inside it without any mount.
    pub subvolumes: Option<Subvolumes>,
    /// Whether files can share their extents or be compressed, so that together they may report more than
    /// is used.
    pub shared_extents: bool,
    /// Whether the kernel keeps one superblock for each block device, so that mounting the device once more
    /// shows the same filesystem.
    pub one_superblock_per_device: bool,
    /// Who may use what is free and yet not available.
    pub reserved_for: ReservedFor,
    /// Whether statvfs(3) passes on counters that nothing checks, so that damage makes them absurd.
    pub unchecked_counters: bool,
    /// The programs that check and change it.
    pub tools: Tools,
}

impl Traits {
    /// Whether files take up memory instead of a disk.
    pub fn is_in_memory(&self) -> bool {
        self.storage == Storage::Memory
    }

    /// Whether it shows the files of other filesystems and keeps none of its own.
    pub fn is_overlay(&self) -> bool {
        self.storage == Storage::Layers
    }
}

/// Where the data of a filesystem's files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On the block device whose number the mount has; nowhere, where that number is an anonymous one.
    #[default]
    Device,
    /// On devices of this machine, though the number of the mount is an anonymous one.
    Devices,
    /// In memory or swap.
    Memory,
    /// In an image that is always full and in which nothing can be freed.
    ReadOnlyImage,
    /// In the layers of an overlay, which are directories of other filesystems.
    Layers,
    /// Wherever a server or a daemon keeps them. Looking at anything may wait for it.
    Server {
        /// Whether the kernel asks it also when a link of /proc leads to the root.
        revalidates_root: bool,
    },
}

/// What is known of a filesystem's subvolumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subvolumes {
    /// The inode number that the root directory of every subvolume has, if it is always the same one.
    pub root_inode: Option<u64>,
}

/// Who may use what is free and yet not available to everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReservedFor {
    /// The filesystem alone.
    #[default]
    Filesystem,
    /// Root, or the user and group that the mount names.
    Root,
}

/// The programs that check and change a filesystem; `None` where there is none or none is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tools {
    /// Says how it is damaged and changes nothing. It has to be unmounted for that.
    pub check: Option<Command>,
    /// Mends it, or is the first step of that. It has to be unmounted for that.
    pub repair: Option<Command>,
    /// Whether `fsck.mode=force` on the kernel's command line has it mended at the next start.
    pub is_repaired_at_boot: bool,
    /// Makes it as large as the device numbered `{number}`.
    pub grow: Option<Command>,
    /// Reserves one percent only.
    pub shrink_reserve: Option<Command>,
    /// Allows `{number}` inodes.
    pub add_inodes: Option<Command>,
    /// Lets the index of a directory grow deeper.
    pub large_directories: Option<Command>,
    /// Lifts the limit that the mount sets to the size of directories.
    pub unlimited_directories: Option<Command>,
}

/// A command line of words with one space between them. `{device}` and `{mountpoint}` each stand for a word,
/// `{number}` for a number anywhere in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command(pub &'static str);

/// What a command is carried out on.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// What is mounted, or the device that is meant.
    pub device: &'a Path,
    /// Where it is mounted.
    pub mountpoint: &'a Path,
    /// A device's number within the filesystem, or how many.
    pub number: u64,
}

impl Command {
    /// The name of the program.
    pub fn program(self) -> &'static str {
        self.0.split(' ').next().unwrap_or(self.0)
    }

    /// The line as a shell takes it, safe to be shown.
    pub fn line(self, on: &Operands<'_>) -> String {
        let words = self.0.split(' ').map(|word| match word {
            "{device}" => escape::shell_path(on.device, true),
            "{mountpoint}" => escape::shell_path(on.mountpoint, true),
            word => word.replace("{number}", &on.number.to_string()),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The words as execve(2) takes them; `None` where one is not UTF-8.
    pub fn words(self, on: &Operands<'_>) -> Option<Vec<String>> {
        let words = self.0.split(' ').map(|word| match word {
            "{device}" => on.device.to_str().map(str::to_owned),
            "{mountpoint}" => on.mountpoint.to_str().map(str::to_owned),
            word => Some(word.replace("{number}", &on.number.to_string())),
        });
        words.collect()
    }
}

/// Tells the traits of a filesystem by its type, as mountinfo names it. The rooms that parse mountinfo and do
/// not know the drivers are given this.
#[derive(Clone, Copy, Debug)]
pub struct TraitsOf(pub fn(&str) -> Traits);

impl Default for TraitsOf {
    /// Knows no type.
    fn default() -> Self {
        Self(|_| Traits::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_filled_word_by_word() {
        let on =
            Operands { device: "/dev/sdb {mountpoint}".as_ref(), mountpoint: "/it's".as_ref(), number: 2 };
        let command = Command("btrfs filesystem resize {number}:max {mountpoint} {device}");
        assert_eq!(
            command.line(&on),
            r"btrfs filesystem resize 2:max '/it'\''s' '/dev/sdb {mountpoint}'",
            "what is filled in is not filled again"
        );
        let words = command.words(&on).unwrap();
        assert_eq!(words[3..], ["2:max", "/it's", "/dev/sdb {mountpoint}"]);
        assert_eq!(command.program(), "btrfs");
    }
}
