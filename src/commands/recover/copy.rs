// SPDX-License-Identifier: MIT OR Apache-2.0

//! From one descriptor to another: sharing the blocks where the filesystem can,
//! else copying the data and leaving the holes.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, copy_file_range, posix_fadvise};
use nix::unistd::{Whence, lseek};

use super::metadata;
use crate::model::bytes::Bytes;
use crate::model::errno::errno;
use crate::model::monitor::Monitor;
use crate::sys::clone::{clone_file, take_over_nocow};
use crate::sys::stat::BLOCK_UNIT;

/// Copied at once: long enough to cost nothing, short enough to be interrupted between.
const IN_KERNEL: u64 = 16 << 20;
/// What stays in a processor's cache between reading and writing; 1 MiB took longer.
const BUFFER: usize = 128 << 10;
/// Where a buffer has to begin: elsewhere the kernel's copies took twice as long.
const PAGE: usize = 4096;

/// Which of the two files the system has refused something of, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The deleted one.
    Source(Errno),
    /// The new one.
    Copy(Errno),
}

/// A copy on its way.
pub(super) struct Copier<'a> {
    source: &'a File,
    destination: &'a File,
    monitor: &'a Monitor,
    way: Way,
    /// How far it has come: before this everything is as in the source.
    end: u64,
    /// Bytes that are no holes.
    data: u64,
}

/// How bytes get across.
enum Way {
    /// `copy_file_range(2)`: on some filesystems without any copy.
    InKernel,
    /// Through this process's memory: always possible.
    Through(Buffer),
}

/// Memory that begins with a page.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let bytes = vec![0; BUFFER + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Self { bytes, start }
    }

    fn first(&mut self, length: usize) -> Option<&mut [u8]> {
        self.bytes.get_mut(self.start..)?.get_mut(..length)
    }
}

impl<'a> Copier<'a> {
    pub(super) fn new(source: &'a File, destination: &'a File, monitor: &'a Monitor) -> Self {
        Self { source, destination, monitor, way: Way::InKernel, end: 0, data: 0 }
    }

    /// Shares all blocks with the source, which takes no space and leaves out what is written meanwhile.
    /// False where that is not possible.
    pub(super) fn share(&mut self) -> Result<bool, Failure> {
        let (source, destination) = (self.source.as_fd(), self.destination.as_fd());
        let cloned = match clone_file(source, destination) {
            Err(Errno::EINVAL) if take_over_nocow(source, destination) == Ok(true) => {
                clone_file(source, destination)
            }
            result => result,
        };
        match cloned {
            Ok(()) => {
                let copy = metadata(self.destination).map_err(Failure::Copy)?;
                self.end = copy.len();
                self.data = copy.blocks().saturating_mul(BLOCK_UNIT);
                Ok(true)
            }
            // Another filesystem, or one that shares nothing; of the latter each says so in its own way.
            Err(_) => Ok(false),
        }
    }

    /// Copies what lies between where it has come to and `length`. Ends early when it is cancelled, or
    /// when the source has become shorter.
    pub(super) fn copy_to(&mut self, length: u64) -> Result<(), Failure> {
        // Reads ahead further; where that is not possible it is only slower.
        let _ = posix_fadvise(self.source, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
        self.monitor.expect(Bytes(self.allocated().min(length - self.end.min(length))));
        while let Some(segment) = self.next_data(self.end, length).map_err(Failure::Source)? {
            self.end = segment.start;
            while self.end < segment.end {
                let copied = self.step(segment.end - self.end)?;
                if copied == 0 {
                    return Ok(());
                }
                self.end += copied;
                self.data = self.data.saturating_add(copied);
                self.monitor.advance(Bytes(copied));
                if self.monitor.is_cancelled() {
                    return Ok(());
                }
            }
        }
        self.end = metadata(self.source).map_err(Failure::Source)?.len().min(length);
        Ok(())
    }

    /// Copies some of the next `left` bytes; 0 at the end of the source.
    fn step(&mut self, left: u64) -> Result<u64, Failure> {
        if matches!(self.way, Way::InKernel) {
            let at = offset(self.end).map_err(Failure::Source)?;
            let length = usize::try_from(left.min(IN_KERNEL)).unwrap_or(BUFFER);
            let done = copy_file_range(
                self.source,
                Some(&mut at.clone()),
                self.destination,
                Some(&mut at.clone()),
                length,
            );
            if let Ok(copied) = done {
                return Ok(copied as u64);
            }
            // Either it cannot be done in this way, or the other one shows which of the two files is at fault.
            self.way = Way::Through(Buffer::new());
        }
        let Way::Through(buffer) = &mut self.way else { return Ok(0) };
        let length = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        let part = buffer.first(length).ok_or(Failure::Source(Errno::EINVAL))?;
        let read = self.source.read_at(part, self.end);
        let read = read.map_err(|error| Failure::Source(errno(&error)))?;
        let part = part.get(..read).ok_or(Failure::Source(Errno::EINVAL))?;
        let written = self.destination.write_all_at(part, self.end);
        written.map_err(|error| Failure::Copy(errno(&error)))?;
        Ok(read as u64)
    }

    /// The next stretch of data at or behind `from` and before `length`.
    fn next_data(&self, from: u64, length: u64) -> Result<Option<Range<u64>>, Errno> {
        if from >= length {
            return Ok(None);
        }
        let start = match lseek(self.source, offset(from)?, Whence::SeekData) {
            // No data behind it.
            Err(Errno::ENXIO) => return Ok(None),
            result => position(result?),
        };
        if start >= length {
            return Ok(None);
        }
        let end = match lseek(self.source, offset(start)?, Whence::SeekHole) {
            // Cut meanwhile.
            Err(Errno::ENXIO) => return Ok(None),
            result => position(result?),
        };
        if start < from || end <= start {
            // Only a server can say so, and an answer like that would be asked for again and again.
            return Err(Errno::EIO);
        }
        Ok(Some(start..end.min(length)))
    }

    /// How many bytes below `length` are data.
    pub(super) fn data_up_to(&self, length: u64) -> Result<u64, Errno> {
        let (mut from, mut sum) = (0, 0_u64);
        while let Some(segment) = self.next_data(from, length)? {
            sum = sum.saturating_add(segment.end - segment.start);
            from = segment.end;
        }
        Ok(sum)
    }

    /// What the source occupies.
    pub(super) fn allocated(&self) -> u64 {
        metadata(self.source).map_or(0, |metadata| metadata.blocks().saturating_mul(BLOCK_UNIT))
    }

    /// The source.
    pub(super) fn source(&self) -> &File {
        self.source
    }

    /// How far it has come.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Gives the copy its length, also where it ends in a hole. Returns that and the bytes of data.
    pub(super) fn finish(&self) -> Result<(u64, u64), Failure> {
        self.destination.set_len(self.end).map_err(|error| Failure::Copy(errno(&error)))?;
        Ok((self.end, self.data))
    }
}

fn offset(position: u64) -> Result<i64, Errno> {
    i64::try_from(position).map_err(|_| Errno::EOVERFLOW)
}

/// The kernel's offsets are never negative.
fn position(offset: i64) -> u64 {
    offset.unsigned_abs()
}
