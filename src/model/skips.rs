// SPDX-License-Identifier: MIT OR Apache-2.0

//! What could not be looked at, of which kind, what would unlock it, and whether it matters. Nothing is
//! dropped silently: every skip is in the report, and makes it incomplete if it matters.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::model::capability::{Capability, Effective};

/// What kind of thing was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A directory whose entries could not be read or looked up.
    Directory,
    /// A file that could not be looked at, in a directory that could.
    File,
    /// A process whose descriptors could not be read.
    Process,
    /// Processes that /proc does not list: others', or those outside this pid namespace.
    Unlisted,
    /// A deleted file that a process has mapped and whose size could not be read.
    Mapping,
    /// A loop device whose file is deleted and could not be looked at.
    LoopDevice,
    /// A socket with descriptors in its queue that could not all be looked at.
    Socket,
    /// An `io_uring` with registered files that could not be looked at.
    Ring,
    /// An inode without a name that is held through an overlay.
    Overlay,
    /// A deleted btrfs subvolume, of which nobody knows what would come free with it.
    DeletedSubvolume,
    /// A mount point beneath which, or at which, nothing could be looked at.
    Mount,
    /// Another subvolume, which the walk does not enter.
    Subvolume,
    /// The part of a filesystem that is mounted nowhere within reach.
    Outside,
    /// Inode tables that make no sense: what directories do not lead to may be missing.
    InodeTables,
    /// A damaged inode of which no name is known.
    Inode,
    /// The filesystem's own list of inodes without a name, which is damaged.
    UnlinkedList,
    /// What the kernel left out without a word, because it is damaged; it only counts that.
    LeftOut,
    /// A filesystem that does not answer.
    Filesystem,
}

impl Kind {
    /// Whether it could only have told who holds what, not how much is held.
    pub fn is_about_holders(self) -> bool {
        matches!(
            self,
            Self::Process
                | Self::Unlisted
                | Self::Mapping
                | Self::LoopDevice
                | Self::Socket
                | Self::Ring
                | Self::Overlay
        )
    }

    /// The word for one or for `count` of them.
    pub fn noun(self, count: usize) -> &'static str {
        match (self, count == 1) {
            (Self::Directory, true) => "directory",
            (Self::Directory, false) => "directories",
            (Self::File, true) => "file",
            (Self::File, false) => "files",
            (Self::Process, true) => "process",
            (Self::Process, false) => "processes",
            (Self::Unlisted, _) => "processes that are not listed",
            (Self::Mapping, true) => "mapped file",
            (Self::Mapping, false) => "mapped files",
            (Self::LoopDevice, true) => "deleted file behind a loop device",
            (Self::LoopDevice, false) => "deleted files behind loop devices",
            (Self::Socket, true) => "socket with queued descriptors",
            (Self::Socket, false) => "sockets with queued descriptors",
            (Self::Ring, true) => "io_uring with registered files",
            (Self::Ring, false) => "io_uring instances with registered files",
            (Self::Overlay, true) => "deleted file open through an overlay",
            (Self::Overlay, false) => "deleted files open through overlays",
            (Self::DeletedSubvolume, true) => "deleted subvolume",
            (Self::DeletedSubvolume, false) => "deleted subvolumes",
            (Self::Mount, true) => "mount",
            (Self::Mount, false) => "mounts",
            (Self::Subvolume, true) => "subvolume or snapshot",
            (Self::Subvolume, false) => "subvolumes and snapshots",
            (Self::Outside, true) => "part that is not mounted",
            (Self::Outside, false) => "parts that are not mounted",
            (Self::InodeTables, true) => "damaged filesystem's inode tables",
            (Self::InodeTables, false) => "damaged filesystems' inode tables",
            (Self::Inode, true) => "damaged inode without a known name",
            (Self::Inode, false) => "damaged inodes without known names",
            (Self::UnlinkedList, true) => "damaged list of deleted files",
            (Self::UnlinkedList, false) => "damaged lists of deleted files",
            (Self::LeftOut, true) => "damaged place that the kernel skipped",
            (Self::LeftOut, false) => "damaged places that the kernel skipped",
            (Self::Filesystem, true) => "filesystem",
            (Self::Filesystem, false) => "filesystems",
        }
    }

    /// The capabilities that looking at such a thing takes: capabilities(7), proc(5).
    fn unlocked_by(self) -> &'static [Capability] {
        match self {
            Self::Directory | Self::File | Self::LoopDevice => &[Capability::DacReadSearch],
            Self::Unlisted | Self::Socket => &[Capability::SysPtrace],
            Self::Process => &[Capability::SysPtrace, Capability::DacReadSearch],
            Self::Mapping => &[Capability::CheckpointRestore],
            Self::Mount | Self::Outside => &[Capability::SysAdmin],
            Self::Ring
            | Self::Overlay
            | Self::DeletedSubvolume
            | Self::Subvolume
            | Self::InodeTables
            | Self::Inode
            | Self::UnlinkedList
            | Self::LeftOut
            | Self::Filesystem => &[],
        }
    }
}

/// Whether that is what filesystems answer where they are damaged: `EFSCORRUPTED` and `EFSBADCRC` of the
/// kernel, and what a disk answers.
pub fn is_damage(errno: Errno) -> bool {
    matches!(errno, Errno::EUCLEAN | Errno::EBADMSG | Errno::EIO)
}

/// One thing that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// What it is.
    pub kind: Kind,
    /// Where it is: an absolute path.
    pub path: PathBuf,
    /// What the system call said; `None` where nothing failed, it is only out of reach.
    pub errno: Option<Errno>,
    /// Its number, where that is known and it may be damaged.
    pub inode: Option<u64>,
}

impl Skip {
    /// A thing of that kind, at that absolute path, for that reason.
    pub fn new(kind: Kind, path: impl Into<PathBuf>, errno: impl Into<Option<Errno>>) -> Self {
        Self { kind, path: path.into(), errno: errno.into(), inode: None }
    }

    /// The same, of the inode with this number.
    pub fn of_inode(self, inode: u64) -> Self {
        Self { inode: Some(inode), ..self }
    }

    /// Whether the filesystem is damaged there, or the disk that it is on.
    pub fn is_damage(&self) -> bool {
        let is_on_it = matches!(
            self.kind,
            Kind::Directory
                | Kind::File
                | Kind::Inode
                | Kind::InodeTables
                | Kind::UnlinkedList
                | Kind::LeftOut
        );
        // A directory with a second name (`d_splice_alias`, fs/dcache.c): no link is followed here.
        let is_circle = matches!(self.kind, Kind::Directory | Kind::File) && self.errno == Some(Errno::ELOOP);
        is_circle || is_on_it && self.errno.is_some_and(is_damage)
    }

    /// The first capability that it takes and that `held` lacks. `None` where more rights would
    /// not help: the reason is another one, or the right is there and was refused all the same.
    pub fn needs(&self, held: Effective) -> Option<Capability> {
        if !matches!(self.errno, Some(Errno::EACCES | Errno::EPERM)) {
            return None;
        }
        self.kind.unlocked_by().iter().copied().find(|&capability| !held.has(capability))
    }
}

/// What is known of the deleted files of one filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Whether the filesystem's own list of deleted files was read whole: then there are no others.
    pub is_listed: bool,
    /// Whether each of those that were found has a holder.
    pub is_attributed: bool,
}

impl Knowledge {
    /// Whether nobody can be missing who holds a deleted file that nobody else was found to hold.
    pub fn misses_nobody(self) -> bool {
        self.is_listed && self.is_attributed
    }
}

/// How far one filesystem is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What is known of its deleted files.
    pub deleted: Knowledge,
    /// Whether its ledger leaves nothing unexplained, and with a bound of zero: then no file is missing.
    /// `None` where no ledger was made, or the filesystem does not count what is used.
    pub ledger_closes: Option<bool>,
}

/// Whether what was skipped could change the answer for a filesystem that is explained so far: a row, a
/// holder that is missing, or a finding. What could only have told who holds something cannot, if there is no
/// deleted file besides those that were found, and each of them has a holder.
pub fn matters(kind: Kind, explained: Explained) -> bool {
    let no_file_is_missing = explained.deleted.is_listed || explained.ledger_closes == Some(true);
    !(kind.is_about_holders() && no_file_is_missing && explained.deleted.is_attributed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_advised_only_where_they_help() {
        let none = Effective::default();
        let denied = Skip::new(Kind::Directory, "/root", Errno::EACCES);
        assert_eq!(denied.needs(none), Some(Capability::DacReadSearch));
        assert_eq!(Skip::new(Kind::Directory, "/bad", Errno::EIO).needs(none), None);
        assert_eq!(Skip::new(Kind::Subvolume, "/snap", None).needs(none), None);
    }

    #[test]
    fn damage_is_what_a_filesystem_answers() {
        for errno in [Errno::EUCLEAN, Errno::EBADMSG, Errno::EIO] {
            assert!(Skip::new(Kind::File, "/bad", errno).is_damage());
            assert!(!Skip::new(Kind::Process, "/proc/1", errno).is_damage());
        }
        assert!(!Skip::new(Kind::File, "/closed", Errno::EACCES).is_damage());
    }
    #[test]
    fn a_process_that_was_not_inspected_matters_where_it_could_hold_something_unknown() {
        let process_matters = |is_listed, is_attributed, ledger_closes| {
            let deleted = Knowledge { is_listed, is_attributed };
            matters(Kind::Process, Explained { deleted, ledger_closes })
        };
        assert!(!process_matters(true, true, Some(false)), "all are listed, and each has a holder");
        assert!(!process_matters(true, true, None), "there is no ledger without a count");
        assert!(!process_matters(false, true, Some(true)), "no byte is missing");
        assert!(process_matters(false, true, Some(false)), "it may hold what is missing");
        assert!(process_matters(false, true, None));
        assert!(process_matters(true, false, Some(true)), "it may be the holder that is missing");
    }

    #[test]
    fn only_what_is_about_holders_can_be_of_no_matter() {
        let deleted = Knowledge { is_listed: true, is_attributed: true };
        let explained = Explained { deleted, ledger_closes: Some(true) };
        for kind in [Kind::Directory, Kind::Mount, Kind::Outside, Kind::DeletedSubvolume, Kind::UnlinkedList]
        {
            assert!(matters(kind, explained), "{kind:?}");
        }
        for kind in [Kind::Process, Kind::Unlisted, Kind::Mapping, Kind::Socket, Kind::Ring] {
            assert!(!matters(kind, explained), "{kind:?}");
        }
    }
}
