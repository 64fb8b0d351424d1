// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why a volume, or a part of it, cannot be read.

use nix::errno::Errno;

use crate::filesystems::{Internal, Unable};

/// What keeps the reader from an answer. What the device itself answers is carried beside our own reasons,
/// so that neither is taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// What was read makes no sense: it is damaged, or was read while the kernel wrote it.
    #[error("what was read makes no sense")]
    Corrupt,
    /// What was read a moment ago is not there any more.
    #[error("it has changed while it was read")]
    Changed,
    /// Features are set with which inodes or directories may be made in a way that is not known here.
    #[error("it has features that are not known")]
    UnknownFeatures,
    /// The name is in an encrypted or case-insensitive directory, where the volume has other bytes for it.
    #[error("the name lies in an encrypted or case-insensitive directory")]
    EncodedName,
    /// The device cannot be read.
    #[error("the device cannot be read: {}", .0.desc())]
    Read(Errno),
    /// There is no thread to read it in.
    #[error("no thread can be started: {}", .0.desc())]
    NoThread(Errno),
    /// A thread that read it has panicked.
    #[error("a thread that read it has ended early")]
    Panicked,
}

/// That the volume is damaged, and what is `known` of it all the same.
pub(super) fn damaged(known: Option<Internal>) -> Unable {
    Unable::Damaged { check: "e2fsck -n", known: known.map(Box::new) }
}

impl From<Error> for Unable {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt => damaged(None),
            Error::Changed => Self::Changed,
            Error::UnknownFeatures => Self::Features,
            Error::EncodedName => Self::MountPoint,
            Error::Read(errno) => Self::Read(errno),
            Error::NoThread(errno) => Self::NoThread(errno),
            Error::Panicked => Self::Panicked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_answers_is_not_taken_for_our_own_reasons() {
        for errno in [Errno::EUCLEAN, Errno::EOPNOTSUPP, Errno::ENOKEY, Errno::EAGAIN] {
            assert_eq!(Unable::from(Error::Read(errno)), Unable::Read(errno));
        }
    }
}
