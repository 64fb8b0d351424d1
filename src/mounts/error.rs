// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why no filesystem was found.

use std::io;
use std::path::PathBuf;

use crate::model::errno::describe;
use crate::model::escape;

/// Why a path leads to no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PATH does not lead anywhere.
    #[error("{}: {}", escape::path(.path), describe(.source))]
    Path {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mounts cannot be read.
    #[error("/proc/self/mountinfo: {}", describe(.0))]
    Mountinfo(#[source] io::Error),
    /// PATH is on a mount that mountinfo does not list.
    #[error(
        "{}: its mount is not in /proc/self/mountinfo (a chroot whose root is not a mount point?)",
        escape::path(.0)
    )]
    UnlistedMount(PathBuf),
    /// No mount of PATH's filesystem can be reached by its own path.
    #[error(
        "{}: its filesystem is mounted at {}, where it is covered by another mount or cannot be entered",
        escape::path(.path), escape::path(.mountpoint)
    )]
    OutOfReach {
        /// The path as given.
        path: PathBuf,
        /// Where its mount is.
        mountpoint: PathBuf,
    },
}
