// SPDX-License-Identifier: MIT OR Apache-2.0

//! Frees the blocks of an opened file.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, ftruncate, lseek, syncfs};

use crate::model::bytes::{Bytes, Gap};
use crate::model::monitor::Monitor;
use crate::statvfs;
use crate::sys::detached::within;
use crate::sys::stat::statx_fd;

/// Frees the blocks of the first `length` bytes, and keeps size and offsets. Where the file ends there, also the
/// last block, of which only a part is in that, and what is allocated beyond the end.
pub(super) fn punch(file: &File, length: u64) -> Result<(), Errno> {
    /// The last block is freed only as a whole; no filesystem has larger ones.
    const ALIGNMENT: u64 = 1 << 20;
    if length > 0 {
        hole(file, length)?;
        if is_still(file, length)? {
            match hole(file, length.checked_next_multiple_of(ALIGNMENT).unwrap_or(length)) {
                // Beyond the largest file that the filesystem can have.
                Err(Errno::EFBIG) => {}
                result => result?,
            }
        }
    }
    // What is allocated beyond the end is not in the hole, on ext4 in no hole (fs/ext4/inode.c,
    // `ext4_punch_hole`): setting the size that the file has anyway frees it.
    if is_still(file, length)? {
        ftruncate(file, i64::try_from(length).map_err(|_| Errno::EFBIG)?)?;
    }
    Ok(())
}

fn hole(file: &File, length: u64) -> Result<(), Errno> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, 0, i64::try_from(length).map_err(|_| Errno::EFBIG)?)
}

/// Whether it has that length and still occupies something. Where it has just grown, what was written must not
/// be touched.
fn is_still(file: &File, length: u64) -> Result<bool, Errno> {
    let now = statx_fd(file.as_fd())?;
    Ok(now.allocated > 0 && now.size == length)
}

/// Empties it and lets its writer go on at the beginning. The offset first: what is written between the
/// two calls is lost with all the rest. The other way round it would land far behind the new end.
pub(super) fn empty(description: &File) -> Result<(), Errno> {
    lseek(description, 0, Whence::SeekSet)?;
    ftruncate(description, 0)
}

/// By how much less of the filesystem is in use. btrfs frees at its next commit, and others may finish
/// in the background: then it is asked to write out, and looked at again, for no longer than `timeout`.
pub(super) fn regained(file: &File, before: Bytes, freed: Bytes, timeout: Duration) -> Option<Gap> {
    /// Long enough for a transaction that is on its way.
    const PATIENCE: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(20);
    let look = || statvfs::read(file.as_fd()).ok().map(|capacity| before - capacity.used);
    let has_come = |regained: Option<Gap>| regained.is_some_and(|regained| regained >= Gap::from(freed));
    let mut regained = look();
    if has_come(regained) {
        return regained;
    }
    if let Ok(file) = file.try_clone() {
        // No answer in time: what is regained by then is told.
        let _ = within(timeout, move || syncfs(&file));
    }
    let clock = Instant::now();
    regained = look();
    while !has_come(regained) && clock.elapsed() < PATIENCE.min(timeout) {
        sleep(STEP);
        regained = look();
    }
    regained
}

/// Tells `monitor` of every change of what a file occupies, until it is dropped. Freeing much takes long, and is
/// seen: the kernel does it in steps.
pub(super) fn watch(file: &File, monitor: &Monitor) -> Option<Sender<()>> {
    const INTERVAL: Duration = Duration::from_millis(100);
    let (file, monitor) = (file.try_clone().ok()?, monitor.clone());
    let (watching, ended) = channel();
    let watcher = thread::Builder::new().name("watch".into()).spawn(move || {
        let mut before = None;
        while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let now = statx_fd(file.as_fd()).ok().map(|stat| stat.allocated);
            if now != before {
                monitor.beat();
            }
            before = now;
        }
    });
    watcher.ok().map(|_| watching)
}
