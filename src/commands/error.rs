//! What ends a run before there is a report.

use std::io;
use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PATH does not lead anywhere.
    #[error("{}: {}", crate::model::escape::path(.path), describe(.source))]
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
        crate::model::escape::path(.0)
    )]
    UnlistedMount(PathBuf),
    /// No mount of PATH's filesystem can be reached by its own path.
    #[error(
        "{}: its filesystem is mounted at {}, where it is covered by another mount or cannot be entered",
        crate::model::escape::path(.path), crate::model::escape::path(.mountpoint)
    )]
    OutOfReach {
        /// The path as given.
        path: PathBuf,
        /// Where its mount is.
        mountpoint: PathBuf,
    },
    /// Only the inode tables were to be read, and cannot be.
    #[error("{}: --method table: {reason}", crate::model::escape::path(.mountpoint))]
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

/// An I/O error in the words of strerror(3), without Rust's "(os error 2)".
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}

/// The system's error behind an I/O error. Those that Rust itself makes are of calls that did less than they
/// were asked to, and gave no reason.
pub(crate) fn errno(error: &io::Error) -> nix::errno::Errno {
    error.raw_os_error().map_or(nix::errno::Errno::EIO, nix::errno::Errno::from_raw)
}

/// A result whose error ends the run.
pub type Result<T> = std::result::Result<T, Error>;
