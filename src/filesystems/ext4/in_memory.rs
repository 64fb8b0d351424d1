// SPDX-License-Identifier: MIT OR Apache-2.0

//! A volume in memory that may be damaged in any way, and all that is done with one: for the tests here
//! and for `tests/fuzz`.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::error::Error;
use super::inode_table::{How, Tables};
use super::tree::Count;
use super::volume::{ReadAt, Volume};
use super::{internal_of, orphans, tree, unlinked};
use crate::model::monitor::Monitor;
use crate::model::usage::{Census, MountPoint, Options};

/// A directory, names in directories of one block and of several, and one that is nowhere.
const MOUNT_POINTS: [&str; 5] = ["a/b", "a/file", "many", "many/file", "nowhere/at/all"];

/// The first that mkfs gives to directories.
const WATCHED: [u64; 2] = [12, 13];

/// Counts the bytes that are read.
pub(super) struct InMemory<'a> {
    bytes: &'a [u8],
    read: AtomicU64,
}

impl<'a> InMemory<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, read: AtomicU64::new(0) }
    }
}

impl ReadAt for InMemory<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let start = usize::try_from(offset).map_err(|_| Error::Corrupt)?;
        let found =
            self.bytes.get(start..).and_then(|rest| rest.get(..buffer.len())).ok_or(Error::Corrupt)?;
        buffer.copy_from_slice(found);
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

/// Does with the image in `bytes` all that a run does with a device, on so many threads. What a damaged
/// one may end in are errors.
///
/// # Panics
///
/// Where more is read or counted than can be there.
pub fn look_everywhere(bytes: &[u8], threads: NonZero<usize>) {
    within(1, bytes, |volume| Ok((volume.size(), volume.largest_directory())));
    // A chain is followed up to 200 times, and asks for two descriptors and two words for each inode.
    within(250, bytes, |volume| {
        let listed = orphans::list(volume, Duration::ZERO)?;
        unlinked::of_orphans(volume, listed)
    });
    // What looks damaged is looked at ten times: inodes, directories, and then names that lead nowhere; gaps between
    // directories are read.
    within(40, bytes, unlinked::in_tables);
    within(80, bytes, |volume| {
        let monitor = Monitor::default();
        let how = How { threads, monitor: &monitor };
        let (census, tables) = count(volume, &MOUNT_POINTS.map(Path::new), how)?;
        check(&census, &tables);
        internal_of(volume, tables, true)
    });
}

/// Checks that no more is read than so many times the image.
fn within<T>(times: u64, bytes: &[u8], look: impl FnOnce(&Volume<'_>) -> Result<T, Error>) {
    let image = InMemory::new(bytes);
    let _ = Volume::open(&image).and_then(|volume| look(&volume));
    let (read, length) = (image.read.into_inner(), bytes.len() as u64);
    assert!(read <= times * length, "{read} bytes read of {length}");
}

/// What is below the root, with these mount points.
pub(super) fn count(
    volume: &Volume<'_>,
    mount_points: &[&Path],
    how: How<'_>,
) -> Result<(Census, Tables), Error> {
    let points: Vec<_> = mount_points.iter().map(|path| MountPoint { path, listed: false }).collect();
    let options = Options { directories: 100, watched: &WATCHED, ..Options::default() };
    match tree::count(volume, &points, options, how)? {
        Count::Whole(census, tables) => Ok((census, tables)),
        Count::Damaged(tables) => {
            internal_of(volume, tables, false)?;
            Err(Error::Corrupt)
        }
    }
}

/// Each inode counts once, wherever that is.
fn check(census: &Census, tables: &Tables) {
    let mut seen = census.visible;
    for part in census.hidden.iter().flatten() {
        seen.add(part.tally);
    }
    assert!(seen.inodes <= tables.named.inodes && seen.bytes <= tables.named.bytes, "{census:?}");
}
