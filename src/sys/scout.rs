// SPDX-License-Identifier: MIT OR Apache-2.0

//! A child process that goes ahead to what may never answer: a filesystem whose server is dead, or a
//! path that leads through one. A thread would not do: waiting for a FUSE daemon that has taken a
//! request and hangs cannot be interrupted, even by SIGKILL, and a process ends only when all its
//! threads have.

mod unmount;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::unistd::{ForkResult, fork, read, write};

use super::deadline::Deadline;
use super::message::{self, Answer, Found};
use super::process::{is_ready, wait};
use super::stat::{Stat, statx_fd};
use super::{Dev, loop_device};
pub use unmount::{Spot, unmount};

/// Opens each of `paths` with `O_PATH`, and has its filesystem say how large it is, whatever the answer. Those that
/// could not be reached within `timeout`: `ETIMEDOUT`. The descriptors are the child's: nobody goes the same way
/// again, for who has answered once need not answer the next time.
pub fn open_answering(paths: &[CString], timeout: Duration) -> Result<Vec<Opened>, Errno> {
    let look = |index: usize| {
        let path = paths.get(index).ok_or(Errno::EINVAL)?;
        let fd = open_and_ask(path)?;
        Ok(Found { fd: Some(fd), ..Found::default() })
    };
    Ok(opened(send_ahead(paths.len(), Given::Nothing, timeout, look)?))
}

/// What was opened, or why nothing was.
pub type Opened = Result<OwnedFd, Errno>;

fn opened(answers: Vec<Answer>) -> Vec<Opened> {
    answers.into_iter().map(|answer| answer?.fd.ok_or(Errno::EBADF)).collect()
}

fn open_and_ask(path: &CStr) -> Opened {
    let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut size = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel fills one struct statfs, which is not read.
    unsafe { libc::fstatfs(fd.as_raw_fd(), size.as_mut_ptr()) };
    Ok(fd)
}

/// Whether all of `paths` can be opened (with `O_PATH`) and their filesystems asked for their sizes within
/// `timeout`, whatever the answers.
pub fn all_answer(paths: &[&CStr], timeout: Duration) -> Result<bool, Errno> {
    let look = |index: usize| open_and_ask(paths.get(index).ok_or(Errno::EINVAL)?).map(|_| Found::default());
    let answers = send_ahead(paths.len(), Given::Nothing, timeout, look)?;
    Ok(!answers.iter().any(|answer| matches!(answer, Err(Errno::ETIMEDOUT))))
}

/// Whether a file is gone within `timeout`: its name is taken away.
pub fn removes(path: &CStr, timeout: Duration) -> Result<bool, Errno> {
    let remove = |_| {
        // SAFETY: the path is terminated and lives through the call.
        Errno::result(unsafe { libc::unlink(path.as_ptr()) }).map(|_| Found::default())
    };
    let answers = send_ahead(1, Given::Nothing, timeout, remove)?;
    Ok(matches!(answers.first(), Some(Ok(_) | Err(Errno::ENOENT))))
}

/// Whether the filesystem of `fd` has written out within `timeout` what is in memory only: syncfs(2).
/// It goes on after that.
pub fn syncs(fd: BorrowedFd<'_>, timeout: Duration) -> Result<bool, Errno> {
    let sync = |_| {
        // SAFETY: takes a number only.
        Errno::result(unsafe { libc::syncfs(GIVEN) }).map(|_| Found::default())
    };
    let answers = send_ahead(1, Given::Descriptor(fd), timeout, sync)?;
    Ok(!matches!(answers.first(), Some(Err(Errno::ETIMEDOUT))))
}

/// Opens each of `paths` with `O_PATH`, not following the last component, in the mount namespace that
/// `namespace` leads to (`CAP_SYS_ADMIN`), or in this process's own. Those that could not be reached
/// within `timeout`: `ETIMEDOUT`.
pub fn open_each(
    namespace: Option<BorrowedFd<'_>>,
    paths: &[CString],
    timeout: Duration,
) -> Result<Vec<Opened>, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let look = |index: usize| {
        let path = paths.get(index).ok_or(Errno::EINVAL)?;
        let fd = open(path.as_c_str(), flags, Mode::empty())?;
        Ok(Found { fd: Some(fd), ..Found::default() })
    };
    let given = namespace.map_or(Given::Nothing, Given::Namespace);
    Ok(opened(send_ahead(paths.len(), given, timeout, look)?))
}

/// What is in each of the files `names` of a directory of the kernel's own (tracefs), or why it could not
/// be read within `timeout`. Such a file may be locked by whoever waits for a server with that lock.
pub fn contents(
    directory: BorrowedFd<'_>,
    names: &[CString],
    timeout: Duration,
) -> Result<Vec<Result<Vec<u8>, Errno>>, Errno> {
    let look = |index: usize| {
        let name = names.get(index).ok_or(Errno::EINVAL)?;
        // SAFETY: the child has been given the directory in this place, and keeps it.
        let directory = unsafe { BorrowedFd::borrow_raw(GIVEN) };
        let file = openat(directory, name.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Found { fd: Some(copy(&file)?), ..Found::default() })
    };
    let answers = send_ahead(names.len(), Given::Descriptor(directory), timeout, look)?;
    Ok(answers.into_iter().map(|answer| read_whole(answer?.fd.ok_or(Errno::EBADF)?)).collect())
}

/// A copy of a file in memory. Allocates nothing here.
fn copy(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    const BUFFER: usize = 4096;
    let copy = memfd_create(c"contents", MFdFlags::MFD_CLOEXEC)?;
    let mut buffer = [0; BUFFER];
    loop {
        let length = read(file, &mut buffer)?;
        let mut part = buffer.get(..length).unwrap_or_default();
        if part.is_empty() {
            return Ok(copy);
        }
        while !part.is_empty() {
            let written = write(&copy, part)?;
            part = part.get(written..).unwrap_or_default();
        }
    }
}

fn read_whole(copy: OwnedFd) -> Result<Vec<u8>, Errno> {
    let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let (mut copy, mut bytes) = (File::from(copy), Vec::new());
    copy.rewind().map_err(failed)?;
    copy.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Device and inode number of what each of these paths leads to.
pub fn identities(paths: &[CString], timeout: Duration) -> Result<Vec<Backing>, Errno> {
    let look = |index: usize| {
        let path = paths.get(index).ok_or(Errno::EINVAL)?;
        let found = open(path.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let Stat { dev, inode, .. } = statx_fd(found.as_fd())?;
        Ok(Found { numbers: [u64::from(dev.major) << 32 | u64::from(dev.minor), inode], fd: None })
    };
    let unpack = |[dev, inode]: [u64; 2]| {
        let half = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
        (Dev { major: half(dev >> 32), minor: half(dev) }, inode)
    };
    let answers = send_ahead(paths.len(), Given::Nothing, timeout, look)?.into_iter();
    Ok(answers.map(|answer| answer.map(|found| unpack(found.numbers))).collect())
}

/// Device and inode number of a file, or why they are not known.
pub type Backing = Result<(Dev, u64), Errno>;

/// What is behind each of these loop devices, given by node and number. A
/// node that is not that device is not opened: that can have effects.
pub fn loop_backings(nodes: &[(CString, Dev)], timeout: Duration) -> Result<Vec<Backing>, Errno> {
    let look = |index: usize| {
        let (node, dev) = nodes.get(index).ok_or(Errno::EINVAL)?;
        let found = open(node.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let stat = fstat(&found)?;
        let is_it = stat.st_mode & libc::S_IFMT == libc::S_IFBLK
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (dev.major.into(), dev.minor.into());
        let device = if is_it { reopen(&found) } else { Err(Errno::ENODEV) }?;
        let numbers = loop_device::backing(device.as_fd())?;
        Ok(Found { numbers, fd: None })
    };
    let answers = send_ahead(nodes.len(), Given::Nothing, timeout, look)?.into_iter();
    Ok(answers.map(|answer| answer.map(|found| loop_device::unpack(found.numbers))).collect())
}

/// Opens for reading what was opened with `O_PATH`. Allocates nothing.
fn reopen(found: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut link = [0; 32];
    write!(&mut link[..], "/proc/self/fd/{}\0", found.as_raw_fd()).map_err(|_| Errno::ENAMETOOLONG)?;
    let link = CStr::from_bytes_until_nul(&link).map_err(|_| Errno::EINVAL)?;
    open(link, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// What a child takes along.
#[derive(Clone, Copy)]
enum Given<'a> {
    Nothing,
    /// It enters this mount namespace.
    Namespace(BorrowedFd<'a>),
    /// It finds this as `GIVEN`.
    Descriptor(BorrowedFd<'a>),
}

/// In the place of stdout.
const GIVEN: RawFd = libc::STDOUT_FILENO;

/// Lets a child `look` at `count` things, one after the other, and returns its answers: `ETIMEDOUT`
/// from where it got none within `timeout`. Such a child is left behind; it ends when its call does.
/// `look` makes system calls only and allocates nothing.
fn send_ahead(
    count: usize,
    given: Given<'_>,
    timeout: Duration,
    look: impl Fn(usize) -> Answer,
) -> Result<Vec<Answer>, Errno> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: other threads may hold locks at this moment, so the child makes system calls only,
    // allocates nothing, and leaves through _exit: fork(2), signal-safety(7).
    match unsafe { fork() }? {
        ForkResult::Child => {
            let entered = enter(given);
            let socket = keep_only(theirs.as_raw_fd(), given);
            for index in 0..count {
                message::send(socket, &entered.and_then(|()| look(index)));
            }
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let deadline = Deadline::after(timeout);
            let (mut answers, ended) = receive(ours.as_fd(), deadline);
            // What it had open is closed when it ends, which may wait for a server, too.
            if !ended || !wait(child, deadline) {
                // If it can be killed, it is; nobody waits to see.
                let _ = kill(child, Signal::SIGKILL);
            }
            answers.resize_with(count, || Err(if ended { Errno::ECHILD } else { Errno::ETIMEDOUT }));
            Ok(answers)
        }
    }
}

/// All that comes before `deadline`, and whether that was all.
fn receive(socket: BorrowedFd<'_>, deadline: Deadline) -> (Vec<Answer>, bool) {
    let mut answers = Vec::new();
    while is_ready(&socket, deadline) {
        match message::receive(socket) {
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) | Err(_) => return (answers, true),
        }
    }
    (answers, false)
}

/// Enters a mount namespace.
fn enter(given: Given<'_>) -> Result<(), Errno> {
    let Given::Namespace(namespace) = given else { return Ok(()) };
    // SAFETY: setns takes numbers only.
    Errno::result(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }).map(drop)
}

/// A child that is left behind must keep nothing open but its `socket` and what it is given: whoever
/// reads our output waits for its end. The socket takes the place of stdin.
fn keep_only(socket: RawFd, given: Given<'_>) -> BorrowedFd<'static> {
    // SAFETY: dup2 takes numbers only.
    unsafe { libc::dup2(socket, libc::STDIN_FILENO) };
    let first_unused = match given {
        Given::Nothing | Given::Namespace(_) => GIVEN,
        Given::Descriptor(fd) => {
            // SAFETY: as above.
            unsafe { libc::dup2(fd.as_raw_fd(), GIVEN) };
            GIVEN + 1
        }
    };
    // SAFETY: as above, and nobody in the child uses the descriptors that this closes.
    if unsafe { libc::syscall(libc::SYS_close_range, first_unused, RawFd::MAX, 0) } != 0 {
        // Before Linux 5.9: those that matter most.
        for other in (first_unused..=libc::STDERR_FILENO).chain([socket]) {
            // SAFETY: as above.
            unsafe { libc::close(other) };
        }
    }
    // SAFETY: it stays open until the child ends.
    unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_mins(1);

    #[test]
    fn what_is_there_answers_and_so_does_what_is_not() {
        assert_eq!(all_answer(&[c"/", c"/nowhere/at/all"], TIMEOUT), Ok(true));
    }

    #[test]
    fn what_a_child_opens_comes_back() {
        let paths = [c"/proc".to_owned(), c"/nowhere/at/all".to_owned(), c"/".to_owned()];
        let inode = |path: &str| fstat(open(path, OFlag::O_PATH, Mode::empty()).unwrap()).unwrap().st_ino;
        for opened in [open_each(None, &paths, TIMEOUT), open_answering(&paths, TIMEOUT)] {
            let opened = opened.unwrap();
            let inodes: Vec<_> =
                opened.iter().map(|fd| fd.as_ref().map(|fd| fstat(fd).unwrap().st_ino)).collect();
            assert_eq!(inodes, [Ok(inode("/proc")), Err(&Errno::ENOENT), Ok(inode("/"))]);
        }
    }

    #[test]
    fn files_of_the_kernel_are_read_by_a_child() {
        let proc = open("/proc/sys/kernel", OFlag::O_PATH, Mode::empty()).unwrap();
        let names = [c"ostype".to_owned(), c"nothing".to_owned(), c"osrelease".to_owned()];
        let contents = contents(proc.as_fd(), &names, TIMEOUT).unwrap();
        let release = std::fs::read("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(contents, [Ok(b"Linux\n".to_vec()), Err(Errno::ENOENT), Ok(release)]);
    }

    #[test]
    fn what_is_no_loop_device_is_not_opened() {
        let null = [(c"/dev/null".to_owned(), Dev { major: 1, minor: 3 })];
        assert_eq!(loop_backings(&null, TIMEOUT), Ok(vec![Err(Errno::ENODEV)]));
    }
}
