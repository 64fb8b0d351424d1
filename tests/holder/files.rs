// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files held through a descriptor or a mapping of an ordinary process.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::FallocateFlags;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use crate::tasks::fork_companion;
use crate::{Held, fill, wait_for_end_of_input};

/// A line break, an escape sequence, a right-to-left override, a tab and a byte
/// that is no UTF-8; the end is plain so that a test can find it on the screen.
const HOSTILE_NAME: &[u8] = b"a\nb\x1b[31m\x1b]0;title\x07\xe2\x80\xaec\t\xff\\end";

pub(crate) fn create(path: &Path, size: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    fill(&mut file, size)?;
    Ok(file)
}

/// A file that has lost its name.
pub(crate) fn unlinked(path: &Path, size: u64) -> io::Result<File> {
    let file = create(path, size)?;
    fs::remove_file(path)?;
    Ok(file)
}

fn hold(file: &File) -> io::Result<()> {
    Held::descriptor(file)?.announce()?;
    wait_for_end_of_input()
}

pub(crate) fn descriptor(path: &Path, size: u64) -> io::Result<()> {
    hold(&unlinked(path, size)?)
}

/// Two opens and a duplicate: three descriptors, two open file descriptions.
pub(crate) fn many_descriptors(path: &Path, size: u64) -> io::Result<()> {
    let file = create(path, size)?;
    let again = File::open(path)?;
    let duplicate = file.try_clone()?;
    fs::remove_file(path)?;
    let mut held = Held::descriptor(&file)?;
    held.descriptors.extend([again.as_raw_fd(), duplicate.as_raw_fd()]);
    held.announce()?;
    wait_for_end_of_input()
}

/// `count` descriptors of one inode, in as many processes as the limit asks for.
pub(crate) fn stress(path: &Path, count: u64) -> io::Result<()> {
    const IN_USE: u64 = 16;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let file = unlinked(path, 4096)?;
    let each = count.min(hard.saturating_sub(IN_USE)).max(1);
    let mut copies = vec![];
    for _ in 1..each {
        copies.push(file.try_clone()?);
    }
    let mut held = Held::descriptor(&file)?;
    let mut left = count.saturating_sub(each);
    while left > 0 {
        let share = left.min(each);
        let keep = usize::try_from(share - 1).unwrap_or(usize::MAX);
        held.children.push(fork_companion(|| copies.truncate(keep))?);
        left -= share;
    }
    held.announce()?;
    wait_for_end_of_input()
}

pub(crate) fn o_path(path: &Path, size: u64) -> io::Result<()> {
    drop(create(path, size)?);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    fs::remove_file(path)?;
    hold(&file)
}

/// PATH is the directory: this file never has a name.
pub(crate) fn tmpfile(directory: &Path, size: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(directory)?;
    fill(&mut file, size)?;
    hold(&file)
}

pub(crate) fn renamed_over(path: &Path, size: u64) -> io::Result<()> {
    let file = create(path, size)?;
    let other = path.with_extension("new");
    drop(create(&other, 4096)?);
    fs::rename(&other, path)?;
    hold(&file)
}

/// 10 GiB long, of which only `allocated` bytes exist.
pub(crate) fn sparse(path: &Path, allocated: u64) -> io::Result<()> {
    let file = unlinked(path, allocated)?;
    file.set_len(10 << 30)?;
    file.sync_all()?;
    hold(&file)
}

/// Allocated far beyond its end, as databases and log writers do.
pub(crate) fn preallocated(path: &Path, allocated: u64) -> io::Result<()> {
    let file = unlinked(path, 4096)?;
    let length = libc::off_t::try_from(allocated).map_err(io::Error::other)?;
    nix::fcntl::fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length)?;
    file.sync_all()?;
    hold(&file)
}

/// Maps the whole file for as long as the process lives.
pub(crate) fn map(file: &File, size: u64) -> io::Result<()> {
    let length = usize::try_from(size).ok().and_then(NonZeroUsize::new);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a new mapping at an address of the kernel's choice, never touched.
    unsafe { nix::sys::mman::mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
    Ok(())
}

/// Mapped, and no descriptor left.
pub(crate) fn only_mapped(path: &Path, size: u64) -> io::Result<Held> {
    let file = unlinked(path, size)?;
    map(&file, size)?;
    Held::inode_of(&file)
}

pub(crate) fn mapped(path: &Path, size: u64) -> io::Result<()> {
    only_mapped(path, size)?.announce()?;
    wait_for_end_of_input()
}

/// Two deleted files are mapped: which one is meant has to be said.
pub(crate) fn two_mapped(path: &Path, size: u64) -> io::Result<()> {
    only_mapped(&path.with_extension("other"), size)?;
    only_mapped(path, size)?.announce()?;
    wait_for_end_of_input()
}

/// Open for reading only.
pub(crate) fn read_only(path: &Path, size: u64) -> io::Result<()> {
    drop(create(path, size)?);
    let file = File::open(path)?;
    fs::remove_file(path)?;
    hold(&file)
}

pub(crate) fn hostile_name(directory: &Path, size: u64) -> io::Result<()> {
    descriptor(&directory.join(OsStr::from_bytes(HOSTILE_NAME)), size)
}

/// The kernel escapes the line break in `maps`, and nothing else.
pub(crate) fn hostile_map(directory: &Path, size: u64) -> io::Result<()> {
    mapped(&directory.join(OsStr::from_bytes(HOSTILE_NAME)), size)
}

/// Opened to write at its end only, as log files are; every byte on standard input makes it write as many
/// bytes again as it began with.
pub(crate) fn appending(path: &Path, size: u64) -> io::Result<()> {
    drop(create(path, size)?);
    on_demand(OpenOptions::new().append(true).open(path)?, path, size)
}

/// A log of something that is called rsyslogd, which closes it when it gets HUP.
pub(crate) fn reopening_log(path: &Path, size: u64) -> io::Result<()> {
    let mut hangup = SigSet::empty();
    hangup.add(Signal::SIGHUP);
    hangup.thread_block()?;
    prctl::set_name(c"rsyslogd")?;
    drop(create(path, size)?);
    let log = OpenOptions::new().append(true).open(path)?;
    fs::remove_file(path)?;
    Held::descriptor(&log)?.announce()?;
    hangup.wait()?;
    drop(log);
    wait_for_end_of_input()
}

/// The same at an offset of its own.
pub(crate) fn writing(path: &Path, size: u64) -> io::Result<()> {
    on_demand(create(path, size)?, path, size)
}

/// The same while it has the file mapped.
pub(crate) fn writing_mapped(path: &Path, size: u64) -> io::Result<()> {
    let file = create(path, size)?;
    map(&file, size)?;
    on_demand(file, path, size)
}

/// Writes on demand; a line break on standard input makes it close the file.
fn on_demand(file: File, path: &Path, size: u64) -> io::Result<()> {
    fs::remove_file(path)?;
    Held::descriptor(&file)?.announce()?;
    let mut file = Some(file);
    let mut asked = [0];
    while io::stdin().read(&mut asked)? > 0 {
        match (asked, &mut file) {
            ([b'\n'], _) => drop(file.take()),
            (_, Some(file)) => fill(file, size)?,
            (_, None) => {}
        }
        // Says that it is done.
        let mut out = io::stdout().lock();
        out.write_all(b"done\n")?;
        out.flush()?;
    }
    Ok(())
}

/// Appends to a deleted file until there are `limit` bytes or no space.
pub(crate) fn growing(path: &Path, limit: u64) -> io::Result<()> {
    let mut file = unlinked(path, 4096)?;
    Held::descriptor(&file)?.announce()?;
    let block = vec![0x55; 16 << 10];
    let stdin = io::stdin();
    loop {
        let mut ended = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut ended, PollTimeout::from(1_u8))? > 0 {
            return Ok(());
        }
        if file.metadata()?.len() < limit && file.write_all(&block).is_err() {
            // Full: what is there stays, and the next write may succeed again.
            file.write_all_at(b"x", 0)?;
        }
    }
}
