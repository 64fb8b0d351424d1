// SPDX-License-Identifier: MIT OR Apache-2.0

//! The end of a child process.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::deadline::Deadline;
use super::pidfd;

/// Waits until a child of this process has ended, but not past `deadline`: one that waits for a server in the
/// kernel does not end when it is killed. Returns whether it has ended.
pub fn wait(child: Pid, deadline: Deadline) -> bool {
    end_of(child, deadline).is_some()
}

/// How a child of this process ends, if it does before `deadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal, or nobody knows how.
    Other,
}

/// Waits as `wait` does.
pub fn end_of(child: Pid, deadline: Deadline) -> Option<End> {
    /// Between two looks, where no descriptor tells of the end: before Linux 5.3.
    const STEP: Duration = Duration::from_millis(1);
    let ended = pidfd::open(child.as_raw());
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) if deadline.has_passed() => return None,
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, status)) => return Some(End::Exited(status)),
            // Where SIGCHLD is ignored the kernel has done that already: `ECHILD`.
            Ok(_) | Err(_) => return Some(End::Other),
        }
        match &ended {
            Ok(ended) => {
                is_ready(ended, deadline);
            }
            Err(_) => sleep(STEP.min(deadline.left())),
        }
    }
}

/// Whether a descriptor can be read from, or has come to its end, before `deadline`. Signals do not cut it
/// short.
pub fn is_ready(descriptor: &impl AsFd, deadline: Deadline) -> bool {
    loop {
        let mut ends = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ends, timeout(deadline.step())) {
            Ok(0) if !deadline.has_passed() => {}
            Err(Errno::EINTR) => {}
            result => return result.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Whole milliseconds, rounded up: poll(2) takes no other.
fn timeout(left: Duration) -> PollTimeout {
    const ALMOST_ONE: Duration = Duration::from_nanos(999_999);
    PollTimeout::try_from(left.saturating_add(ALMOST_ONE)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_end_of_a_child_is_waited_for_and_no_longer() {
        #[expect(clippy::zombie_processes, reason = "it is waited for by its number")]
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(!wait(pid, Deadline::after(Duration::from_millis(20))));
        child.kill().unwrap();
        assert!(wait(pid, Deadline::after(Duration::MAX)));
        assert!(wait(pid, Deadline::after(Duration::ZERO)), "it is nobody's child any more");
    }

    #[test]
    fn a_descriptor_without_anything_to_read_is_not_ready() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(!is_ready(&ours, Deadline::after(Duration::from_micros(1500))));
        drop(theirs);
        assert!(is_ready(&ours, Deadline::after(Duration::MAX)));
    }
}
