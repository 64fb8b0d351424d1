// SPDX-License-Identifier: MIT OR Apache-2.0

//! The descriptors that wait in the queue of a unix socket, looked at without receiving them:
//! `MSG_PEEK`, unix(7).
//!
//! That gives copies, and each has to be closed, which may wait for a server that does not answer
//! (FUSE and NFS are asked on every close(2)). So a child has them.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork, pipe2, read};

use super::deadline::Deadline;
use super::process::{is_ready, wait};

/// The child's descriptors below this are its own; all others are copies of what was queued.
pub const FIRST_COPY: u32 = 3;

/// `SCM_MAX_FD` descriptors (include/net/scm.h: 253), credentials, a security label: in words of 8 bytes.
const CONTROL: usize = 512;

/// A child that has copies of what was queued, until this is dropped.
#[derive(Debug)]
pub struct Peek {
    child: Pid,
    until: Option<OwnedFd>,
}

impl Peek {
    /// Looks into the queue of `socket`. Of a stream these are the first descriptors in it; of any other
    /// socket, those of the first message. `EBUSY`: its owner peeks with an offset, which our peeking
    /// would move (`SO_PEEK_OFF`, socket(7)); `EAGAIN`: nothing is queued; `EINVAL`: it listens.
    pub fn at(socket: BorrowedFd<'_>, timeout: Duration) -> Result<Self, Errno> {
        if peek_offset(socket)? >= 0 {
            return Err(Errno::EBUSY);
        }
        let ((said, say), (wait, until)) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
        let ends = [socket.as_raw_fd(), say.as_raw_fd(), wait.as_raw_fd()];
        if ends.iter().any(|&end| end < libc::STDERR_FILENO + 1) {
            // They would take each other's place in the child.
            return Err(Errno::EBADF);
        }
        // SAFETY: other threads may hold locks at this moment, so the child makes system calls only,
        // allocates nothing, and leaves through _exit: fork(2), signal-safety(7).
        match unsafe { fork() }? {
            ForkResult::Child => peek_and_wait(ends),
            ForkResult::Parent { child } => {
                drop((say, wait));
                let peek = Self { child, until: Some(until) };
                if !is_ready(&said, Deadline::after(timeout)) {
                    return Err(Errno::ETIMEDOUT);
                }
                let mut errno = [0];
                match read(&said, &mut errno)? {
                    1 if errno == [0] => Ok(peek),
                    1 => Err(Errno::from_raw(errno[0].into())),
                    _ => Err(Errno::ECHILD),
                }
            }
        }
    }

    /// The child's number.
    pub fn pid(&self) -> i32 {
        self.child.as_raw()
    }
}

impl Drop for Peek {
    fn drop(&mut self) {
        /// In milliseconds, for all of them: those whose files are slow to close are not waited for long.
        static PATIENCE: AtomicU32 = AtomicU32::new(500);
        // The other end is what it waits on.
        self.until = None;
        let (begun, most) = (Instant::now(), PATIENCE.load(Ordering::Relaxed));
        let has_ended = wait(self.child, Deadline::after(Duration::from_millis(most.into())));
        let took = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        PATIENCE.store(most.saturating_sub(took), Ordering::Relaxed);
        if !has_ended {
            // If it can be killed, it is; nobody waits to see.
            let _ = kill(self.child, Signal::SIGKILL);
        }
    }
}

/// The owner's offset for peeking; negative where it has none.
fn peek_offset(socket: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    let mut offset: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&offset)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `offset` has room for the `length` bytes that the kernel may fill.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw mut offset).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(|_| offset)
}

fn peek_and_wait(ends: [RawFd; 3]) -> ! {
    let [socket, say, wait] = [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO];
    for (from, to) in ends.into_iter().zip([socket, say, wait]) {
        // SAFETY: dup2 takes numbers only.
        unsafe { libc::dup2(from, to) };
    }
    let errno = close_others().and_then(|()| peek(socket)).err().map_or(0, |errno| errno as i32);
    // Every error of Linux has a number below 134: the lowest byte says it.
    let [byte, ..] = errno.to_le_bytes();
    // SAFETY: writes one byte that lives through the call.
    unsafe { libc::write(say, (&raw const byte).cast(), 1) };
    let mut end = 0_u8;
    // SAFETY: reads at most one byte into `end`.
    unsafe { libc::read(wait, (&raw mut end).cast(), 1) };
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

/// Whatever else is open is not taken for a copy. Linux 5.9.
fn close_others() -> Result<(), Errno> {
    // SAFETY: nobody in the child uses the descriptors that this closes.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST_COPY, RawFd::MAX, 0) };
    Errno::result(result).map(drop)
}

/// Takes copies, and no byte of any message: a stream is passed through up to its first descriptors
/// though no room is given (`unix_stream_read_generic` in `net/unix/af_unix.c` asks for room last).
fn peek(socket: RawFd) -> Result<(), Errno> {
    let mut control = [0_u64; CONTROL];
    // SAFETY: all zeros is a message header without any pointer.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` and the buffer it points to live through the call.
    Errno::result(unsafe { libc::recvmsg(socket, &raw mut message, flags) }).map(drop)
}
