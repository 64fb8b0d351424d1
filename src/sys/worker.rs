//! A child process that goes on with this one's work. It may end up waiting for a server that has taken a
//! request and never answers: then not even SIGKILL ends it, but this process can leave it behind.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpid, getppid};

use super::deadline::Deadline;
use super::process;

/// The child.
#[derive(Debug)]
pub struct Worker {
    child: Pid,
    /// To what it was given.
    pub line: UnixStream,
}

impl Worker {
    /// Its number.
    pub fn pid(&self) -> i32 {
        self.child.as_raw()
    }

    /// Ends it, or leaves it behind to end when its call returns.
    pub fn abandon(&self) {
        // It may have ended by itself.
        let _ = kill(self.child, Signal::SIGKILL);
    }

    /// Waits until all that it had open is closed, but no longer than `timeout`.
    pub fn wait(&self, timeout: Duration) {
        process::wait(self.child, Deadline::after(timeout));
    }
}

/// Starts a child that does `work` with its end of a line to this process. It has no other descriptors, is
/// not interrupted by SIGINT, and dies with the thread that starts it. `EAGAIN` where this process has more
/// than one thread.
pub fn start(work: impl FnOnce(UnixStream)) -> Result<Worker, Errno> {
    let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    if fs::read_dir("/proc/self/task").map_err(failed)?.count() != 1 {
        return Err(Errno::EAGAIN);
    }
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let parent = getpid();
    // SAFETY: no other thread can hold a lock that the child would wait for.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ours);
            if stand_alone(parent, theirs.as_raw_fd()).is_ok() {
                work(theirs);
            }
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => Ok(Worker { child, line: ours }),
    }
}

/// Whoever reads our output, or waits for a lock that we hold, must not wait for the child.
fn stand_alone(parent: Pid, line: RawFd) -> Result<(), Errno> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(Errno::ESRCH);
    }
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }?;
    // In place of the standard streams something that can neither be read nor written, and is there in any
    // root directory.
    let nothing = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    drop(nothing);
    close_range(libc::STDERR_FILENO + 1, line - 1);
    close_range(line + 1, RawFd::MAX);
    Ok(())
}

/// Before Linux 5.9 they stay open.
fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: in the child nobody uses the descriptors that this closes.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
