//! A child process that goes ahead to see whether a filesystem answers. A thread would
//! not do: waiting for a FUSE daemon that has taken a request and hangs cannot be interrupted, even
//! by SIGKILL, and a process ends only when all its threads have.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe2};

/// Whether `path` can be opened (with `O_PATH`) and its filesystem asked for its size within
/// `timeout`, whatever the answer. A child that gets none is left behind; it ends when its call does.
pub fn answers(path: &CStr, timeout: Duration) -> Result<bool, Errno> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: other threads may hold locks at this moment, so the child makes system calls only,
    // allocates nothing, and leaves through _exit: fork(2), signal-safety(7).
    match unsafe { fork() }? {
        ForkResult::Child => look_and_exit(path, writer.as_raw_fd()),
        ForkResult::Parent { child } => {
            drop(writer);
            // The child never writes: its end of the pipe closes when it is done.
            let mut ends = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            let answered = wait_for(&mut ends, timeout)?;
            if answered {
                waitpid(child, None)?;
            } else {
                // If it can be killed, it is; nobody waits to see.
                let _ = kill(child, Signal::SIGKILL);
            }
            Ok(answered)
        }
    }
}

/// Whether something happens within `timeout`. Signals do not cut it short.
fn wait_for(ends: &mut [PollFd<'_>], timeout: Duration) -> Result<bool, Errno> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(ends, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => {}
            result => return result.map(|ready| ready > 0),
        }
    }
}

fn look_and_exit(path: &CStr, pipe: RawFd) -> ! {
    // A child that is left behind must keep nothing else open: whoever reads our output waits for
    // its end. The pipe takes the place of stdin.
    // SAFETY: dup2 takes numbers only.
    unsafe { libc::dup2(pipe, libc::STDIN_FILENO) };
    // SAFETY: as above, and nobody in the child uses the descriptors that this closes.
    if unsafe { libc::syscall(libc::SYS_close_range, libc::STDOUT_FILENO, RawFd::MAX, 0) } != 0 {
        // Before Linux 5.9: those that matter most.
        for standard in [libc::STDOUT_FILENO, libc::STDERR_FILENO, pipe] {
            // SAFETY: as above.
            unsafe { libc::close(standard) };
        }
    }
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    let mut size = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel checks the descriptor and fills one struct statfs, which is not read.
    unsafe { libc::fstatfs(fd, size.as_mut_ptr()) };
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_answers_and_so_does_what_is_not() {
        let timeout = Duration::from_mins(1);
        assert_eq!(answers(c"/", timeout), Ok(true));
        assert_eq!(answers(c"/nowhere/at/all", timeout), Ok(true));
    }
}
