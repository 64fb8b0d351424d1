// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages in which a child tells what it has found, with a descriptor if there is one: unix(7),
//! `SCM_RIGHTS`.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// What was found: two numbers on which both sides agree, and perhaps something opened.
#[derive(Debug, Default)]
pub struct Found {
    /// The numbers.
    pub numbers: [u64; 2],
    /// The descriptor.
    pub fd: Option<OwnedFd>,
}

/// A message: what was found, or why nothing was.
pub type Answer = Result<Found, Errno>;

/// What a message consists of, the descriptor aside: the error or 0, and the numbers.
type Words = [u64; 3];

/// A control message with one descriptor, aligned as the kernel wants it.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fd: RawFd,
}

/// `cmsg_len` of [`Control`], `CMSG_LEN` in cmsg(3). The fields that take it are a `size_t` in glibc and
/// a `socklen_t` in musl.
// SAFETY: it only computes.
const CONTROL_LEN: u32 = unsafe { libc::CMSG_LEN(RawFd::BITS / 8) };

/// Sends `answer`. It makes one system call and allocates nothing, so a child of a process with
/// several threads may do it. A reader that has gone is no error.
pub fn send(socket: BorrowedFd<'_>, answer: &Answer) {
    let (mut words, fd): (Words, _) = match answer {
        Ok(Found { numbers: [first, second], fd }) => ([0, *first, *second], fd.as_ref()),
        Err(errno) => ([u64::from((*errno as i32).unsigned_abs()), 0, 0], None),
    };
    let mut part = libc::iovec { iov_base: (&raw mut words).cast(), iov_len: size_of::<Words>() };
    // SAFETY: a control header of zeros is valid.
    let mut control = Control { header: unsafe { std::mem::zeroed() }, fd: -1 };
    // SAFETY: so is a message header of zeros.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        control.header.cmsg_len = CONTROL_LEN as _;
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        control.fd = fd.as_raw_fd();
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_LEN as _;
    }
    // SAFETY: what `message` points to lives through the call.
    unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
}

/// Receives a message; `None` when there are no more.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Option<Answer>, Errno> {
    let mut bytes = [0; size_of::<Words>()];
    let mut control = cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let received = message.bytes;
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        // This process may have no more descriptors: recvmsg(2).
        return Ok(Some(Err(Errno::EMFILE)));
    }
    let fd = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just given us this descriptor, the only one that there was room for.
    let fd = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if received == 0 {
        return Ok(None);
    }
    let (words, _) = bytes.as_chunks();
    let word = |index: usize| words.get(index).copied().map_or(0, u64::from_ne_bytes);
    Ok(Some(match i32::try_from(word(0)).unwrap_or(libc::EIO) {
        0 => Ok(Found { numbers: [word(1), word(2)], fd }),
        error => Err(Errno::from_raw(error)),
    }))
}
