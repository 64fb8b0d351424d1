// SPDX-License-Identifier: MIT OR Apache-2.0

//! A child process that goes on with this one's work. It may end up waiting for a server that has taken a
//! request and never answers: then not even SIGKILL ends it, but this process can leave it behind.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpid, getppid};

use super::deadline::Deadline;
use super::stat::statx_fd;
use super::{Dev, memory, process};

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

    /// Whether it ends, within `timeout`, because there was not enough memory for it.
    pub fn lacks_memory(&self, timeout: Duration) -> bool {
        let end = process::end_of(self.child, Deadline::after(timeout));
        end == Some(process::End::Exited(memory::EXIT_STATUS))
    }

    /// Waits until all that it had open is closed, but no longer than `timeout`.
    pub fn wait(&self, timeout: Duration) {
        process::wait(self.child, Deadline::after(timeout));
    }
}

/// What a child has of this process's descriptors, besides its end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptors {
    /// All of them. This process keeps standard error only.
    All,
    /// None, so that nobody waits for the child who reads this process's output.
    None,
}

/// What to say when it was killed, or there was not enough memory for it.
pub const DIED: &str = "the process that does the work has died";

/// Whether this process is such a child.
static IS_WORKER: AtomicBool = AtomicBool::new(false);

/// Whether this process works for the one that started it.
pub fn is_running() -> bool {
    IS_WORKER.load(Ordering::Relaxed)
}

/// Starts a child that does `work` with its end of a line to this process. It is not interrupted by SIGINT.
/// Without descriptors it dies with this process; otherwise it has to let go of the streams first.
/// `EAGAIN` where this process has more than one thread.
pub fn start(descriptors: Descriptors, work: impl FnOnce(UnixStream)) -> Result<Worker, Errno> {
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
            if stand_alone(parent, descriptors, theirs.as_raw_fd()).is_ok() {
                IS_WORKER.store(true, Ordering::Relaxed);
                work(theirs);
            }
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            if descriptors == Descriptors::All {
                // Those that stay open are only held longer than the child holds them.
                let _ = keep_standard_error(ours.as_raw_fd());
            }
            Ok(Worker { child, line: ours })
        }
    }
}

/// Lets go of the descriptors that this process was started with, and of all copies of them: whoever reads its
/// output must not wait for its end. What it has opened itself is closed by execve(2).
pub fn let_go_of_inherited() {
    let Ok(nothing) = nothing() else { return };
    let open = open_descriptors();
    let inherited: Vec<RawFd> = open.iter().copied().filter(|&number| is_inherited(number)).collect();
    let leads_to: Vec<_> = inherited.iter().filter_map(|&number| identity(number)).collect();
    for number in open {
        let is_copy = identity(number).is_some_and(|identity| leads_to.contains(&identity));
        if inherited.contains(&number) || is_copy && number != nothing.as_raw_fd() {
            // SAFETY: takes numbers only. From here on nothing is read or written in this process.
            unsafe { libc::dup3(nothing.as_raw_fd(), number, libc::O_CLOEXEC) };
        }
    }
}

/// Where /proc is not to be had, the standard streams have to do.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return vec![libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO];
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn is_inherited(number: RawFd) -> bool {
    // SAFETY: takes numbers only; one that is not open fails with EBADF.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Asks no server.
fn identity(number: RawFd) -> Option<(Dev, u64)> {
    // SAFETY: it is only asked about: if it is not open, that fails with EBADF.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    statx_fd(descriptor).ok().map(|stat| stat.identity())
}

fn let_go_of_streams() -> Result<(), Errno> {
    let nothing = nothing()?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)
}

/// Has the kernel end this process with the thread that started it.
pub fn die_with_parent() {
    // Only an unknown signal is refused.
    let _ = set_pdeathsig(Signal::SIGKILL);
}

/// Ends this process, as far as its threads can be: first in a way that lets it take away what it has half done.
pub fn die() {
    const PATIENCE: Duration = Duration::from_millis(100);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let _ = kill(getpid(), signal);
        sleep(PATIENCE);
    }
}

/// Whoever reads our output, or waits for a lock that we hold, must not wait for a child that has none of it.
fn stand_alone(parent: Pid, descriptors: Descriptors, line: RawFd) -> Result<(), Errno> {
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }?;
    if descriptors == Descriptors::All {
        return Ok(());
    }
    die_with_parent();
    if getppid() != parent {
        return Err(Errno::ESRCH);
    }
    let_go_of_streams()?;
    close_all_but(line);
    Ok(())
}

fn keep_standard_error(line: RawFd) -> Result<(), Errno> {
    let nothing = nothing()?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    drop(nothing);
    close_all_but(line);
    Ok(())
}

/// In place of a stream something that can neither be read nor written, and is there in any root directory.
fn nothing() -> Result<OwnedFd, Errno> {
    open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// Closes all but the standard streams and the line. Before Linux 5.9 they stay open.
fn close_all_but(line: RawFd) {
    for (first, last) in [
        (libc::STDERR_FILENO.saturating_add(1), line.saturating_sub(1)),
        (line.saturating_add(1), RawFd::MAX),
    ] {
        if first <= last {
            // SAFETY: nobody in this process, which has one thread, uses the descriptors that this closes.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}
