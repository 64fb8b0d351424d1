// SPDX-License-Identifier: MIT OR Apache-2.0

//! The system's errors, in its own words.

use std::io;

use nix::errno::Errno;

/// An I/O error in the words of strerror(3), without Rust's "(os error 2)".
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}

/// The system's error behind an I/O error. Those that Rust itself makes are of calls that did less than they
/// were asked to, and gave no reason.
pub fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
