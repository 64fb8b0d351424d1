// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors that the kernel meets on a filesystem while something reads it. Not all of them are told to who
//! reads: names in a damaged block of a directory are left out (`ext4_readdir` and `htree_dirblock_to_tree`,
//! fs/ext4), as if they were not there.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use nix::unistd::read;

use super::Mounted;
use crate::mounts::Mount;

/// Waits for errors.
pub struct Watch<'a> {
    mount: &'a Mount,
    /// `FAN_FS_ERROR` of fanotify(7), Linux 5.16; takes `CAP_SYS_ADMIN`.
    events: Option<Fanotify>,
    /// How many ext4 had noted before. It brings that number up to date a little later, and not at all on
    /// a device that cannot be written.
    noted: Option<u64>,
}

/// What was met.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Inodes that were concerned: the first of those that were met before anybody asked (`fsnotify_sb_error`).
    pub inodes: BTreeSet<u64>,
    /// Whether there was anything at all.
    pub any: bool,
}

impl<'a> Watch<'a> {
    /// Begins with the filesystem of `mount`, whose root `root` is (`O_PATH` is enough).
    pub fn begin(on: Mounted<'a>) -> Self {
        let mount = on.mount;
        // Elsewhere a path may be looked up by a server.
        let events = mount.traits.tools.check.and_then(|_| mark(on.root).ok());
        Self { mount, events, noted: super::driver(&mount.fstype).errors(mount) }
    }

    /// What has been met since.
    pub fn end(self) -> Met {
        let mut met = Met {
            inodes: BTreeSet::new(),
            any: super::driver(&self.mount.fstype).errors(self.mount) > self.noted,
        };
        let mut buffer = [0; 4096];
        while let Some(events) = &self.events
            && let Ok(length @ 1..) = read(events.as_fd(), &mut buffer)
        {
            met.any = true;
            met.inodes.extend(inodes(buffer.get(..length).unwrap_or_default()));
        }
        met
    }
}

fn mark(root: BorrowedFd<'_>) -> Result<Fanotify, Errno> {
    let flags = InitFlags::FAN_CLASS_NOTIF
        | InitFlags::from_bits_retain(libc::FAN_REPORT_FID)
        | InitFlags::FAN_NONBLOCK
        | InitFlags::FAN_CLOEXEC;
    let events = Fanotify::init(flags, EventFFlags::O_RDONLY)?;
    let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
    events.mark(flags, MaskFlags::FAN_FS_ERROR, root, Some(c"."))?;
    Ok(events)
}

/// The inodes in the file handles that come with events: `struct fanotify_event_metadata`, then records of
/// `struct fanotify_event_info_header` and what belongs to it (include/uapi/linux/fanotify.h).
fn inodes(mut events: &[u8]) -> Vec<u64> {
    const EVENT: usize = 24;
    const RECORD: usize = 4;
    /// `FAN_EVENT_INFO_TYPE_FID`.
    const FILE_HANDLE: u8 = 1;
    let mut found = Vec::new();
    while let Some(length) = at(events, 0).map(u32::from_ne_bytes)
        && length as usize >= EVENT
        && let Some((event, rest)) = events.split_at_checked(length as usize)
    {
        events = rest;
        let mut records = event.get(EVENT..).unwrap_or_default();
        while let Some(length) = at(records, 2).map(u16::from_ne_bytes).map(usize::from)
            && length >= RECORD
            && let Some((record, rest)) = records.split_at_checked(length)
        {
            records = rest;
            if record.first() == Some(&FILE_HANDLE) {
                found.extend(inode(record.get(RECORD..).unwrap_or_default()));
            }
        }
    }
    found
}

/// The inode in a file handle, behind the filesystem's number.
fn inode(record: &[u8]) -> Option<u64> {
    /// `FILEID_INO32_GEN` of ext4, and the same with 64 bits, of XFS (include/linux/exportfs.h).
    const INODE: [i32; 2] = [0x1, 0x81];
    let kind = i32::from_ne_bytes(at(record, 12)?);
    let [short, long] = INODE.map(|known| known == kind);
    let inode = if short {
        u32::from_ne_bytes(at(record, 16)?).into()
    } else if long {
        u64::from_ne_bytes(at(record, 16)?)
    } else {
        0
    };
    (inode != 0).then_some(inode)
}

fn at<const LENGTH: usize>(bytes: &[u8], offset: usize) -> Option<[u8; LENGTH]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event as Linux 6.18 tells it of inode 12 of an ext4.
    const EVENT: [u8; 64] = [
        64, 0, 0, 0, 3, 0, 24, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0xdd, 0x43, 0, 0, //
        1, 0, 28, 0, 0x34, 0x2d, 0xe3, 0x35, 0x5a, 0x66, 0x32, 0xad, 8, 0, 0, 0, 1, 0, 0, 0, //
        12, 0, 0, 0, 0xc5, 0x5d, 0x12, 0xc7, 5, 0, 12, 0, 117, 0, 0, 0, 1, 0, 0, 0,
    ];

    #[test]
    fn events_name_inodes() {
        assert_eq!(inodes(&[EVENT, EVENT].concat()), [12, 12]);
        assert!(inodes(&EVENT[..63]).is_empty());
    }

    proptest! {
        #[test]
        fn any_events_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            inodes(&bytes);
            inodes(&[EVENT.as_slice(), &bytes].concat());
        }
    }
}
