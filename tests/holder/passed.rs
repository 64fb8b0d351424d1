// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files that are on their way to a process, or were handed to the kernel: no descriptor leads to them.
//! When its input ends, each of these takes what waits for it and fails if anything is not as it was left.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

use crate::files::{create, unlinked};
use crate::{Held, wait_for_end_of_input};

const BEFORE: &[u8] = b"sent before ";
const WITH: &[u8] = b"sent with it";

fn pair(kind: SockType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?)
}

fn send(socket: &OwnedFd, text: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(text)], control, MsgFlags::empty(), None)?;
    Ok(())
}

/// One message: its text, and the inodes of the descriptors in it.
fn receive(socket: RawFd) -> io::Result<(Vec<u8>, Vec<u64>)> {
    let mut text = [0; 64];
    let mut control = nix::cmsg_space!([RawFd; 253]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let mut inodes = Vec::new();
    for part in message.cmsgs()? {
        let ControlMessageOwned::ScmRights(descriptors) = part else { continue };
        for fd in descriptors {
            // SAFETY: the message has just brought this descriptor.
            inodes.push(unsafe { File::from_raw_fd(fd) }.metadata()?.ino());
        }
    }
    let length = message.bytes;
    Ok((text[..length].to_vec(), inodes))
}

fn expect(socket: RawFd, text: &[u8], inodes: &[u64]) -> io::Result<()> {
    let received = receive(socket)?;
    if received == (text.to_vec(), inodes.to_vec()) {
        return Ok(());
    }
    Err(io::Error::other(format!("received {received:?}")))
}

/// The inode of `file`, held by the queue of `socket`.
fn in_queue(file: &File, socket: RawFd) -> io::Result<Held> {
    Ok(Held { descriptors: vec![socket], ..Held::inode_of(file)? })
}

/// Two descriptors of the file behind other bytes, as a stream has them.
pub(crate) fn queued_stream(path: &Path, size: u64) -> io::Result<()> {
    let (ours, theirs) = pair(SockType::Stream)?;
    let file = unlinked(path, size)?;
    let held = in_queue(&file, theirs.as_raw_fd())?;
    send(&ours, BEFORE, &[])?;
    send(&ours, WITH, &[file.as_raw_fd(), file.as_raw_fd()])?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()?;
    expect(theirs.as_raw_fd(), &[BEFORE, WITH].concat(), &[held.inode, held.inode])
}

pub(crate) fn queued_datagram(path: &Path, size: u64) -> io::Result<()> {
    let (ours, theirs) = pair(SockType::Datagram)?;
    let file = unlinked(path, size)?;
    let held = in_queue(&file, theirs.as_raw_fd())?;
    send(&ours, WITH, &[file.as_raw_fd()])?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()?;
    expect(theirs.as_raw_fd(), WITH, &[held.inode])
}

/// Only the first message can be looked at.
pub(crate) fn queued_second(path: &Path, size: u64) -> io::Result<()> {
    let (ours, theirs) = pair(SockType::SeqPacket)?;
    let file = unlinked(path, size)?;
    let held = in_queue(&file, theirs.as_raw_fd())?;
    send(&ours, BEFORE, &[])?;
    send(&ours, WITH, &[file.as_raw_fd()])?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()?;
    expect(theirs.as_raw_fd(), BEFORE, &[])?;
    expect(theirs.as_raw_fd(), WITH, &[held.inode])
}

/// Whoever peeks moves the offset, which must be where it was.
pub(crate) fn queued_peek_offset(path: &Path, size: u64) -> io::Result<()> {
    let (ours, theirs) = pair(SockType::Stream)?;
    let socket = theirs.as_raw_fd();
    let (mut offset, length): (libc::c_int, _) = (0, size_of::<libc::c_int>());
    let mut length = libc::socklen_t::try_from(length).map_err(io::Error::other)?;
    let option = (libc::SOL_SOCKET, libc::SO_PEEK_OFF);
    // SAFETY: reads one `c_int`.
    let set = unsafe { libc::setsockopt(socket, option.0, option.1, (&raw const offset).cast(), length) };
    nix::errno::Errno::result(set)?;
    let file = unlinked(path, size)?;
    let held = in_queue(&file, socket)?;
    send(&ours, WITH, &[file.as_raw_fd()])?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()?;
    // SAFETY: writes one `c_int`.
    let got =
        unsafe { libc::getsockopt(socket, option.0, option.1, (&raw mut offset).cast(), &raw mut length) };
    nix::errno::Errno::result(got)?;
    if offset != 0 {
        return Err(io::Error::other(format!("the offset is {offset}")));
    }
    expect(socket, WITH, &[held.inode])
}

/// In a connection that was not accepted yet.
pub(crate) fn queued_unaccepted(path: &Path, size: u64) -> io::Result<()> {
    let name = format!("whyfull-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let ours = OwnedFd::from(UnixStream::connect_addr(&address)?);
    let file = unlinked(path, size)?;
    let held = in_queue(&file, listener.as_raw_fd())?;
    send(&ours, WITH, &[file.as_raw_fd()])?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()?;
    expect(listener.accept()?.0.as_raw_fd(), WITH, &[held.inode])
}

/// A file that has a name is held by nobody in particular.
pub(crate) fn queued_live(path: &Path, size: u64) -> io::Result<()> {
    let (ours, theirs) = pair(SockType::Stream)?;
    let file = create(path, size)?;
    let held = in_queue(&file, theirs.as_raw_fd())?;
    send(&ours, WITH, &[file.as_raw_fd()])?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()?;
    expect(theirs.as_raw_fd(), WITH, &[held.inode])
}

/// A file that is there already, on whatever filesystem. Not taken back: that may wait for a server.
pub(crate) fn queued_existing(path: &Path, _: u64) -> io::Result<()> {
    let (ours, theirs) = pair(SockType::Stream)?;
    let file = File::open(path)?;
    let held = in_queue(&file, theirs.as_raw_fd())?;
    send(&ours, WITH, &[file.as_raw_fd()])?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()
}

/// Mirrors `struct io_uring_params` (`include/uapi/linux/io_uring.h`), all zeros here.
const RING_PARAMETERS: usize = 120;
const IORING_REGISTER_FILES: libc::c_uint = 2;

/// Registered with an `io_uring`, and no descriptor left.
pub(crate) fn registered(path: &Path, size: u64) -> io::Result<()> {
    let mut parameters = [0_u8; RING_PARAMETERS];
    // SAFETY: the kernel reads and writes one struct of that size.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
    let ring = RawFd::try_from(nix::errno::Errno::result(ring)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let file = unlinked(path, size)?;
    let files = [file.as_raw_fd()];
    // SAFETY: the kernel reads one descriptor's number.
    let done = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), IORING_REGISTER_FILES, files.as_ptr(), 1)
    };
    nix::errno::Errno::result(done)?;
    let held = in_queue(&file, ring.as_raw_fd())?;
    drop(file);
    held.announce()?;
    wait_for_end_of_input()
}

/// Written to and held with its name, which whoever started this takes away.
pub(crate) fn written(path: &Path, size: u64) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    crate::fill(&mut file, size)?;
    Held::descriptor(&file)?.announce()?;
    wait_for_end_of_input()
}

/// The working directory, which still has its name.
pub(crate) fn inside(path: &Path, _: u64) -> io::Result<()> {
    std::env::set_current_dir(path)?;
    Held::inode_of(&File::open(".")?)?.announce()?;
    wait_for_end_of_input()
}
