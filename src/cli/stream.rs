// SPDX-License-Identifier: MIT OR Apache-2.0

//! A descriptor that the command was started with, such as standard output: that it is there, and takes all
//! that is written to it, is made sure of. Rust's `io::stdout()` does not: it calls a write to a closed
//! descriptor a success (library/std/src/io/stdio.rs, `handle_ebadf`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{close, write};

use crate::model::errno::describe;
use crate::sys::startup;

/// A copy of the descriptor, which leads to the same.
pub(super) struct Stream(OwnedFd);

impl Stream {
    /// Standard output.
    pub(super) fn stdout() -> Result<Self, Errno> {
        Self::open(libc::STDOUT_FILENO)
    }

    /// The descriptor with that number. `EBADF` if the command was started without it, or if it is not open
    /// for writing.
    pub(super) fn open(number: RawFd) -> Result<Self, Errno> {
        startup::inherited_for_writing(number).map(Self)
    }

    /// Writes all of it and closes the copy, at which a server may report that its disk is full: close(2).
    pub(super) fn write(self, bytes: &[u8]) -> Result<(), Errno> {
        write_all(self.0.as_fd(), bytes)?;
        match close(self.0) {
            // It is closed, and what was written is not lost.
            Err(Errno::EINTR) => Ok(()),
            result => result,
        }
    }
}

/// Writes all of it, also where whoever gave us the descriptor does not want to wait for it.
pub(super) fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(descriptor, bytes) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut ready = [PollFd::new(descriptor, PollFlags::POLLOUT)];
                match poll(&mut ready, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Prints to standard output, or says why that was not possible. Whoever has closed the other end of a pipe
/// has seen enough.
pub(super) fn print(bytes: &[u8]) -> Result<(), String> {
    match Stream::stdout().and_then(|stdout| stdout.write(bytes)) {
        Ok(()) | Err(Errno::EPIPE) => Ok(()),
        Err(errno) => Err(failure(errno)),
    }
}

/// What to say when standard output cannot be written to.
pub(super) fn failure(errno: Errno) -> String {
    format!("standard output: {}", describe(&io::Error::from(errno)))
}
