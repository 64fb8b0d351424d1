// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ways in which the commands that write do their work.

/// How a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMethod {
    /// Sharing the original's blocks: it takes no space.
    Reflink,
    /// Byte for byte.
    Copy,
}

/// How a file's blocks are freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseMethod {
    /// The file keeps its size and reads as zeros.
    PunchHole,
    /// The file is empty, and its writer goes on at its beginning.
    Truncate,
    /// The mounts that keep it are unmounted.
    Unmount,
}
