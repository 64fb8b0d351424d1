// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why a filesystem's own records cannot be read.

use nix::errno::Errno;

use super::Internal;
use crate::model::skips;

/// Why a filesystem cannot be read from below.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unable {
    /// No way to do so is known.
    #[error("whyfull can read {0} only through names")]
    Filesystem(String),
    /// The rest of it would be read, too.
    #[error("only a part of it is mounted")]
    Part,
    /// What is beneath mount points is to be listed, and files are not told apart here.
    #[error("names under mount points are to be listed")]
    Listed,
    /// Its device cannot be opened.
    #[error("its device cannot be opened: {}", .0.desc())]
    Device(Errno),
    /// It is made in a way that is not known here.
    #[error("it has features that whyfull does not know")]
    Features,
    /// Where a mount point lies cannot be told from below.
    #[error("a mount point lies in an encrypted or case-insensitive directory")]
    MountPoint,
    /// What was read makes no sense, however often.
    #[error("what was read makes no sense, so it may be damaged ({check} checks it)")]
    Damaged {
        /// The command that tells.
        check: &'static str,
        /// What is known of it all the same.
        known: Option<Box<Internal>>,
    },
    /// It changes faster than it can be read.
    #[error("it changes faster than it can be read")]
    Changed,
    /// Its device cannot be read.
    #[error("its device cannot be read: {}", .0.desc())]
    Read(Errno),
    /// There is no thread to read it in.
    #[error("no thread can be started to read it: {}", .0.desc())]
    NoThread(Errno),
    /// A thread that read it has panicked.
    #[error("what read it has ended early")]
    Panicked,
    /// The kernel does not tell.
    #[error("the kernel does not tell: {}", .0.desc())]
    Refused(Errno),
}

impl Unable {
    /// What a system call answers in such a case.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Device(errno) | Self::Read(errno) | Self::NoThread(errno) | Self::Refused(errno) => *errno,
            Self::Panicked => Errno::EIO,
            Self::Changed => Errno::EAGAIN,
            // `EFSCORRUPTED` of the kernel.
            Self::Damaged { .. } => Errno::EUCLEAN,
            Self::Filesystem(_) | Self::Part | Self::Listed | Self::Features | Self::MountPoint => {
                Errno::EOPNOTSUPP
            }
        }
    }

    /// Whether the filesystem is damaged, or the disk that it is on.
    pub fn is_damage(&self) -> bool {
        skips::is_damage(self.errno())
    }
}
