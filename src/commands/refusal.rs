// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why nothing was done: what the two commands that write refuse, what stops them, and where a report is not
//! written.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::commands::error;
use crate::model::bytes::{Bytes, Units};
use crate::model::capability::{Capability, Effective};
use crate::model::errno::describe;
use crate::model::escape;
use crate::model::file_spec::{FileSpec, Handle};
use crate::mounts;
use crate::sys::capabilities;

/// Why a file was neither recovered nor released.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The mounts, or a path given with the file, lead nowhere.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// Nobody can be asked who holds it.
    #[error(transparent)]
    Run(#[from] error::Error),
    /// Nobody has that number.
    #[error("{0}: there is no such process or thread")]
    NoProcess(FileSpec),
    /// It holds nothing in that way.
    #[error("{}: {}", .0, not_held(*.0))]
    NotHeld(FileSpec),
    /// A number that is a file's only together with its filesystem.
    #[error("{0}: add --filesystem PATH, because each filesystem numbers its own inodes")]
    WhichFilesystem(FileSpec),
    /// The filesystem does not list it.
    #[error("{what}: no deleted file on {} has this number", escape::path(.mountpoint))]
    NotListed {
        /// What was asked for.
        what: FileSpec,
        /// Where.
        mountpoint: PathBuf,
    },
    /// The filesystem lists nothing at all.
    #[error(
        "{what}: {fstype} on {} keeps no list of deleted files; name a holder (PID:FD)",
        escape::path(.mountpoint)
    )]
    NoList {
        /// What was asked for.
        what: FileSpec,
        /// Where.
        mountpoint: PathBuf,
        /// Its type.
        fstype: String,
    },
    /// More than one file is meant.
    #[error("{what}: several deleted files match: {choice}")]
    Ambiguous {
        /// What was asked for.
        what: FileSpec,
        /// How to choose.
        choice: String,
    },
    /// It is not the file that was seen.
    #[error(
        "{what}: this is inode {found} now, not {expected}: another file has taken its place; nothing was done"
    )]
    OtherInode {
        /// What was asked for.
        what: FileSpec,
        /// The number given.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// No ordinary file.
    #[error("{what}: {}, which has no data of its own", if *.directory { "a directory" } else { "a device, FIFO, socket or link" })]
    NotAFile {
        /// What was asked for.
        what: FileSpec,
        /// Whether it is a directory.
        directory: bool,
    },
    /// It is not deleted.
    #[error("{what}: it still has a name{}; whyfull only recovers and releases deleted files", name(.path.as_deref()))]
    Named {
        /// What was asked for.
        what: FileSpec,
        /// The name by which it was opened, if that is the one it still has.
        path: Option<PathBuf>,
    },
    /// Rights are missing.
    #[error("{subject}: {}{}", .errno.desc(), takes(.needs))]
    Denied {
        /// What may not be opened.
        subject: String,
        /// What the system said.
        errno: Errno,
        /// The capabilities that it takes and that this process lacks.
        needs: Vec<Capability>,
    },
    /// A filesystem that may be dead.
    #[error("{subject}: no answer within {} (--timeout)", humantime::format_duration(*.timeout))]
    NoAnswer {
        /// What was asked for.
        subject: String,
        /// How long that was waited for.
        timeout: Duration,
    },
    /// Any other answer of the system.
    #[error("{subject}: {}", describe(.source))]
    System {
        /// What was to be done, or with what.
        subject: String,
        /// What the system said.
        source: io::Error,
    },
    /// DEST is there.
    #[error("{} exists already (--force replaces a file)", escape::path(.0))]
    Exists(PathBuf),
    /// DEST is there and no file.
    #[error("{} is not a regular file and is not replaced", escape::path(.0))]
    NotReplaceable(PathBuf),
    /// DEST leads elsewhere.
    #[error("{} is a symbolic link: give the path that it leads to", escape::path(.0))]
    Symlink(PathBuf),
    /// A link on the way to DEST, or to the report's file, that is not followed.
    #[error(
        "{} is a symbolic link that somebody else could have made: give the path that it leads to",
        escape::path(.0)
    )]
    ForeignLink(PathBuf),
    /// A FIFO, device or socket for the report that is not written to.
    #[error("{} is not a regular file, and somebody else could have put it there: whyfull does not write to it", escape::path(.0))]
    Planted(PathBuf),
    /// A FIFO that nobody reads.
    #[error("{}: nobody has opened it for reading within {} (--timeout)", escape::path(.path), humantime::format_duration(*.timeout))]
    NoReader {
        /// The FIFO.
        path: PathBuf,
        /// How long that was waited for.
        timeout: Duration,
    },
    /// It would not fit.
    #[error(
        "{}: {} are needed and {} available",
        escape::path(.path), Units::Binary.format(*.needed), Units::Binary.format(*.available)
    )]
    NoSpace {
        /// The directory to copy to.
        path: PathBuf,
        /// What the copy takes.
        needed: Bytes,
        /// What is there.
        available: Bytes,
    },
    /// It is so full that nothing can be made in it at all.
    #[error(
        "{}: no room even for an empty file: remove a small file first; a copy that shares blocks needs no more",
        escape::path(.0)
    )]
    NoInode(PathBuf),
    /// Ctrl-C.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
    /// Only a descriptor can be waited for.
    #[error("{0}: --follow takes PID:FD: it goes on until that descriptor is closed")]
    NothingToFollow(FileSpec),
    /// A running program.
    #[error("{0}: a program that is running: its blocks are needed; restart the program")]
    Running(FileSpec),
    /// What the kernel lets nobody write to (`ETXTBSY`), though nobody was seen to run it.
    #[error(
        "{0}: a program that is running, or swap in use: its blocks are needed; restart the program, or \
         `swapoff`, which moves into memory what is swapped out"
    )]
    InUse(FileSpec),
    /// Truncating would kill those who have it mapped.
    #[error(
        "{what}: mapped by {by}: truncating it would kill them (SIGBUS); leave out --truncate, or add --force"
    )]
    Mapped {
        /// What was asked for.
        what: FileSpec,
        /// Who has it mapped.
        by: String,
    },
    /// The disk of a loop device, a mounted image, an interpreter: what the kernel itself works with.
    #[error("{what}: the kernel itself uses it ({by}): this would destroy its data (--force does it anyway)")]
    InKernel {
        /// What was asked for.
        what: FileSpec,
        /// How.
        by: String,
    },
    /// No mount keeps it.
    #[error("{0}: --unmount takes only inode:N of a deleted file that a mount keeps")]
    NoMount(FileSpec),
    /// Unmounting alone would free nothing.
    #[error("{what}: {by} holds it, too, so unmounting would free nothing")]
    HeldBesides {
        /// What was asked for.
        what: FileSpec,
        /// Who else.
        by: String,
    },
    /// The kernel holds it in another way, or another mount lies over the mount point.
    #[error("{what}: kept by {by}, which cannot be unmounted from here")]
    NoWay {
        /// What was asked for.
        what: FileSpec,
        /// What keeps it.
        by: String,
    },
    /// `EBUSY`.
    #[error(
        "{what}: {by} is in use: a process has its working directory or a file there, or something is mounted on it"
    )]
    MountInUse {
        /// What was asked for.
        what: FileSpec,
        /// The mount.
        by: String,
    },
    /// It has been unmounted, or another is seen in its place.
    #[error("{what}: {by} is no longer what is mounted there; run whyfull again")]
    OtherMount {
        /// What was asked for.
        what: FileSpec,
        /// The mount.
        by: String,
    },
    /// On no filesystem that is mounted.
    #[error("{0}: memory of no mounted filesystem, so no disk space would be freed (--force)")]
    NotMounted(FileSpec),
    /// Only a writer's own descriptor has the offset to be set back.
    #[error("{0}: --truncate takes PID:FD of a descriptor that is open for writing")]
    NoWriter(FileSpec),
    /// The filesystem cannot do it.
    #[error("{0}: this filesystem cannot punch holes; try --truncate")]
    NoHoles(FileSpec),
    /// Nobody is there to say yes.
    #[error("standard input is not a terminal, so whyfull cannot ask; --yes releases without asking")]
    NobodyToAsk,
    /// The answer was no.
    #[error("not released")]
    Declined,
}

impl Refusal {
    /// What the system said, while something was done with `subject`.
    pub(crate) fn system(subject: &dyn Display, errno: Errno) -> Self {
        Self::System { subject: subject.to_string(), source: errno.into() }
    }

    /// The same, with `needs` told where the reason is a lack of rights.
    pub(crate) fn denied_or(subject: &dyn Display, errno: Errno, needs: &[Capability]) -> Self {
        if !matches!(errno, Errno::EACCES | Errno::EPERM) {
            return Self::system(subject, errno);
        }
        let held = Effective::of(capabilities::effective());
        let needs = needs.iter().copied().filter(|&capability| !held.has(capability)).collect();
        Self::Denied { subject: subject.to_string(), errno, needs }
    }

    /// Whether more rights would help.
    pub fn lacks_rights(&self) -> bool {
        matches!(self, Self::Denied { needs, .. } if !needs.is_empty())
    }
}

fn not_held(what: FileSpec) -> &'static str {
    match what {
        FileSpec::Held { handle: Handle::Descriptor(_), .. } => "there is no such descriptor (any more)",
        FileSpec::Held { handle: Handle::Mapping, .. } => "no deleted file is mapped (any more)",
        FileSpec::Held { handle: Handle::Executable, .. } | FileSpec::Inode(_) => {
            "there is no program (any more)"
        }
    }
}

fn name(path: Option<&Path>) -> String {
    path.map(|path| format!(" ({})", escape::path(path))).unwrap_or_default()
}

fn takes(needs: &[Capability]) -> String {
    let names: Vec<&str> = needs.iter().map(|capability| capability.name()).collect();
    if names.is_empty() { String::new() } else { format!(" (needs {})", names.join(" and ")) }
}
