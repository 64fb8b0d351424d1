// SPDX-License-Identifier: MIT OR Apache-2.0

//! What ends a run before there is a report.

use std::io;
use std::path::PathBuf;

use crate::model::errno::describe;
use crate::model::escape;
use crate::mounts;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PATH, or the mounts, lead nowhere.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// Only the inode tables were to be read, and cannot be.
    #[error("{}: --method table: {reason}", escape::path(.mountpoint))]
    Tables {
        /// Where the filesystem is mounted.
        mountpoint: PathBuf,
        /// Why not.
        reason: crate::filesystems::Unable,
    },
    /// Processes cannot be listed, so nothing can be said of holders.
    #[error("/proc: {}", describe(.0))]
    Proc(#[source] io::Error),
}

/// A result whose error ends the run.
pub type Result<T> = std::result::Result<T, Error>;
