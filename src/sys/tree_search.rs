// SPDX-License-Identifier: MIT OR Apache-2.0

//! `BTRFS_IOC_TREE_SEARCH`: items of btrfs's own trees, `btrfs-ioctl(2)`.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

const BTRFS_IOC_TREE_SEARCH: libc::Ioctl = libc::_IOWR::<Request>(0x94, 17);
const SIZE: usize = 4096;

/// Mirrors `struct btrfs_ioctl_search_key` (include/uapi/linux/btrfs.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct SearchKey {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: [u32; 9],
}

/// Mirrors `struct btrfs_ioctl_search_args`.
#[repr(C)]
struct Request {
    key: SearchKey,
    buffer: [u8; SIZE - size_of::<SearchKey>()],
}

const _: () = assert!(size_of::<SearchKey>() == 104 && size_of::<Request>() == SIZE);

/// `struct btrfs_ioctl_search_header`, which precedes each item: transaction, key, length.
mod header {
    pub(super) const OBJECT: usize = 8;
    pub(super) const OFFSET: usize = 16;
    pub(super) const TYPE: usize = 24;
    pub(super) const LENGTH: usize = 28;
    pub(super) const SIZE: usize = 32;
}

/// The key of an item. Items are ordered by it, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What the item belongs to.
    pub object: u64,
    /// What it is.
    pub kind: u8,
    /// Depends on the kind.
    pub offset: u64,
}

impl Key {
    /// The one behind it, in the order of keys; `None` for the last.
    fn successor(self) -> Option<Self> {
        if let Some(offset) = self.offset.checked_add(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(kind) = self.kind.checked_add(1) {
            return Some(Self { kind, offset: 0, ..self });
        }
        Some(Self { object: self.object.checked_add(1)?, kind: 0, offset: 0 })
    }
}

/// Calls `each` for every item of `tree` from key `first` to key `last`. Needs `CAP_SYS_ADMIN`;
/// `ENOENT`: there is no such tree (any more).
pub fn items(
    fd: BorrowedFd<'_>,
    tree: u64,
    first: Key,
    last: Key,
    mut each: impl FnMut(Key, &[u8]),
) -> Result<(), Errno> {
    let mut request =
        Box::new(Request { key: SearchKey::default(), buffer: [0; SIZE - size_of::<SearchKey>()] });
    let mut from = Some(first);
    while let Some(start) = from {
        // The kernel takes each field of the minimum for the beginning of a range over whole keys:
        // `key_in_sk` in fs/btrfs/ioctl.c.
        request.key = SearchKey {
            tree_id: tree,
            min_objectid: start.object,
            max_objectid: last.object,
            min_offset: start.offset,
            max_offset: last.offset,
            max_transid: u64::MAX,
            min_type: start.kind.into(),
            max_type: last.kind.into(),
            nr_items: u32::MAX,
            ..SearchKey::default()
        };
        let address: *mut Request = &raw mut *request;
        // SAFETY: this form of the call has a fixed size, which `Request` has.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), BTRFS_IOC_TREE_SEARCH, address) };
        Errno::result(result)?;
        from = None;
        for (key, item) in found(&request.buffer).take(usize::try_from(request.key.nr_items).unwrap_or(0)) {
            from = key.successor().filter(|next| *next > start && *next <= last);
            if (first..=last).contains(&key) {
                each(key, item);
            }
        }
    }
    Ok(())
}

/// The items in a filled buffer; stops at the first that does not fit into it.
fn found(buffer: &[u8]) -> impl Iterator<Item = (Key, &[u8])> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let kind = u32::from_ne_bytes(*rest.get(header::TYPE..)?.first_chunk()?);
        let length = u32::from_ne_bytes(*rest.get(header::LENGTH..)?.first_chunk()?);
        let key = Key {
            object: u64::from_ne_bytes(*rest.get(header::OBJECT..)?.first_chunk()?),
            kind: u8::try_from(kind).ok()?,
            offset: u64::from_ne_bytes(*rest.get(header::OFFSET..)?.first_chunk()?),
        };
        let end = header::SIZE.checked_add(usize::try_from(length).ok()?)?;
        let item = rest.get(header::SIZE..end)?;
        rest = &rest[end..];
        Some((key, item))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_behind_carries_over() {
        let last_offset = Key { object: 5, kind: 48, offset: u64::MAX };
        assert_eq!(last_offset.successor(), Some(Key { object: 5, kind: 49, offset: 0 }));
        let last_kind = Key { kind: u8::MAX, ..last_offset };
        assert_eq!(last_kind.successor(), Some(Key { object: 6, kind: 0, offset: 0 }));
        assert_eq!(Key { object: u64::MAX, ..last_kind }.successor(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512)) {
            proptest::prop_assert!(found(&bytes).count() <= bytes.len());
        }
    }
}
