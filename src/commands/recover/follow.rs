// SPDX-License-Identifier: MIT OR Apache-2.0

//! Goes on with what is written to a deleted file until its holder lets go of it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::copy::{Copier, Failure};
use super::metadata;
use crate::commands::verified_file::Opened;
use crate::model::monitor::Monitor;

/// How often to look for more: a descriptor that is closed tells nobody.
const INTERVAL: Duration = Duration::from_millis(100);

/// Why there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The descriptor was closed, or its process ended.
    Closed,
    /// The file has become shorter than what was copied: that long.
    Cut(u64),
    /// The user has had enough.
    Interrupted,
}

/// Copies what is appended until the descriptor `number` of its holder leads elsewhere.
pub(super) fn follow(
    copier: &mut Copier<'_>,
    opened: &Opened,
    number: u32,
    monitor: &Monitor,
) -> Result<Ended, Failure> {
    let identity = opened.stat.identity();
    let task = opened.task.as_ref();
    let pidfd = task.and_then(|task| task.pidfd().ok());
    loop {
        // Asked before the last look, so that nothing is missed that was written before the end. Our
        // own descriptor keeps the file until then.
        let held = task.is_some_and(|task| task.has_open(number, identity));
        let length = metadata(copier.source()).map_err(Failure::Source)?.len();
        if length < copier.end() {
            return Ok(Ended::Cut(length));
        }
        copier.copy_to(length)?;
        if !held {
            return Ok(Ended::Closed);
        }
        if monitor.is_cancelled() {
            return Ok(Ended::Interrupted);
        }
        monitor.beat();
        wait(pidfd.as_ref()).map_err(Failure::Source)?;
    }
}

/// A while, or until the process ends.
fn wait(pidfd: Option<&OwnedFd>) -> Result<(), Errno> {
    let mut ended: Vec<PollFd<'_>> =
        pidfd.iter().map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut ended, PollTimeout::try_from(INTERVAL).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
