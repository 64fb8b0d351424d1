// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extended attributes, in inodes and in blocks: Documentation/filesystems/ext4/attributes.rst. Where they
//! look damaged, which they also do while they change, the rest of them is left out.

use std::iter;

use super::error::Error;
use super::format::{inode, u8_at, u16_at, u32_at, xattr_entry};
use super::volume::{Volume, room};

/// All that an inode or a block has.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a> {
    entries: &'a [u8],
    /// Offsets of values count from its beginning.
    base: &'a [u8],
}

/// `struct ext4_xattr_entry`.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// What its name begins with.
    pub(super) index: u8,
    pub(super) name: &'a [u8],
    offset: u16,
    /// The inode that holds the value, 0 for none.
    inode: u32,
    size: u32,
}

/// Those in an inode, given as it stands in its table; `None` where there are none.
pub(super) fn in_inode(whole: &[u8]) -> Option<Attributes<'_>> {
    let extra = usize::from(u16_at(whole, inode::I_EXTRA_ISIZE).ok()?);
    let header = whole.get(usize::from(inode::EXT4_GOOD_OLD_INODE_SIZE) + extra..)?;
    let entries = behind(header, xattr_entry::HEADER)?;
    Some(Attributes { entries, base: entries })
}

/// Those in a block of attributes; `None` where it is none.
fn in_block(block: &[u8]) -> Option<Attributes<'_>> {
    Some(Attributes { entries: behind(block, xattr_entry::BLOCK_HEADER)?, base: block })
}

/// What follows a header that begins with the magic number.
fn behind(header: &[u8], length: usize) -> Option<&[u8]> {
    let is_one = u32_at(header, 0).is_ok_and(|magic| magic == xattr_entry::EXT4_XATTR_MAGIC);
    is_one.then(|| header.get(length..)).flatten()
}

impl<'a> Attributes<'a> {
    /// One after the other, up to the first that is damaged.
    pub(super) fn entries(self) -> impl Iterator<Item = Result<Entry<'a>, Error>> {
        let mut rest = Some(self.entries);
        iter::from_fn(move || match next(rest.take()?) {
            Ok(None) => None,
            Ok(Some((entry, behind))) => {
                rest = Some(behind);
                Some(Ok(entry))
            }
            Err(error) => Some(Err(error)),
        })
    }

    /// What the kernel checks of those in an inode: `check_xattrs` (fs/ext4/xattr.c).
    pub(super) fn are_sound(self, volume: &Volume<'_>) -> bool {
        let (mut rest, mut entries) = (self.entries, Vec::new());
        loop {
            match next(rest) {
                Ok(Some((entry, behind))) => {
                    entries.push(entry);
                    rest = behind;
                }
                // Behind it the values begin.
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        let first = self.base.len() - rest.len() + 4;
        entries.iter().all(|entry| !entry.name.contains(&0) && self.is_sound_value(volume, *entry, first))
    }

    /// `first` is where values begin.
    fn is_sound_value(self, volume: &Volume<'_>, entry: Entry<'_>, first: usize) -> bool {
        if entry.size > xattr_entry::EXT4_XATTR_SIZE_MAX {
            return false;
        }
        if entry.inode != 0 {
            return volume.has_ea_inodes() && volume.is_ordinary(entry.inode) && entry.size > 0;
        }
        let padded = entry.size.next_multiple_of(4) as usize;
        let end = usize::from(entry.offset).saturating_add(padded);
        entry.size == 0 || usize::from(entry.offset) >= first && end <= self.base.len()
    }

    /// The value of one of its entries, where that lies beside them.
    pub(super) fn value(self, entry: Entry<'_>) -> Option<&'a [u8]> {
        self.base.get(entry.offset.into()..)?.get(..usize::try_from(entry.size).ok()?)
    }
}

/// The first entry and what follows it.
fn next(list: &[u8]) -> Result<Option<(Entry<'_>, &[u8])>, Error> {
    // Four zero bytes end the list.
    if u32_at(list, 0)? == 0 {
        return Ok(None);
    }
    let end = xattr_entry::E_NAME + usize::from(u8_at(list, xattr_entry::E_NAME_LEN)?);
    let entry = Entry {
        index: u8_at(list, xattr_entry::E_NAME_INDEX)?,
        name: list.get(xattr_entry::E_NAME..end).ok_or(Error::Corrupt)?,
        offset: u16_at(list, xattr_entry::E_VALUE_OFFS)?,
        inode: u32_at(list, xattr_entry::E_VALUE_INUM)?,
        size: u32_at(list, xattr_entry::E_VALUE_SIZE)?,
    };
    let behind = list.get(end.next_multiple_of(4)..).ok_or(Error::Corrupt)?;
    Ok(Some((entry, behind)))
}

/// The bytes that an inode with these attributes is charged for values in inodes of their own, though it
/// may share them: `ext4_xattr_inode_alloc_quota` and `round_up_cluster` (fs/ext4/xattr.c).
pub(super) fn charged(volume: &Volume<'_>, attributes: Option<Attributes<'_>>) -> u64 {
    let entries = attributes.into_iter().flat_map(Attributes::entries).map_while(Result::ok);
    // The kernel refuses larger ones (`check_xattrs`), and there can be none that the volume has no room for.
    let held = entries.filter(|entry| {
        volume.is_inode(entry.inode)
            && entry.size <= xattr_entry::EXT4_XATTR_SIZE_MAX
            && u64::from(entry.size) <= volume.size()
    });
    held.map(|entry| volume.in_clusters(entry.size.into())).sum()
}

/// The same for the attributes in a block, which is read into `buffer`.
pub(super) fn charged_in_block(volume: &Volume<'_>, block: u64, buffer: &mut Vec<u8>) -> Result<u64, Error> {
    let buffer = room(buffer, usize::try_from(volume.block_size).map_err(|_| Error::Corrupt)?);
    match volume.read(block, 0, buffer) {
        Ok(()) => Ok(charged(volume, in_block(buffer))),
        // It lies nowhere.
        Err(Error::Corrupt) => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block with one entry for each of these inodes and sizes of values.
    fn block(values: &[(u32, u32)]) -> Vec<u8> {
        let mut block = vec![0; xattr_entry::BLOCK_HEADER];
        block[..4].copy_from_slice(&xattr_entry::EXT4_XATTR_MAGIC.to_le_bytes());
        for (inode, size) in values {
            block.extend([3, 1, 0, 0]);
            block.extend(inode.to_le_bytes());
            block.extend(size.to_le_bytes());
            block.extend([0; 4]);
            block.extend(b"big\0");
        }
        block.extend([0; 4]);
        block
    }

    fn values(block: &[u8]) -> Vec<(u32, u32)> {
        let entries = in_block(block).into_iter().flat_map(Attributes::entries).map_while(Result::ok);
        entries.map(|entry| (entry.inode, entry.size)).collect()
    }

    proptest! {
        #[test]
        fn entries_are_found_up_to_the_damage(
            all in prop::collection::vec((1..9_u32, any::<u32>()), 0..9),
            cut in 0..300_usize,
        ) {
            let block = block(&all);
            prop_assert_eq!(&values(&block), &all);
            let some = values(&block[..cut.min(block.len())]);
            prop_assert!(all.starts_with(&some));
        }

        #[test]
        fn anything_can_be_read(mut bytes in prop::collection::vec(any::<u8>(), 4..2000)) {
            bytes[..4].copy_from_slice(&xattr_entry::EXT4_XATTR_MAGIC.to_le_bytes());
            prop_assert!(values(&bytes).len() * xattr_entry::E_NAME <= bytes.len());
            for entry in in_block(&bytes).into_iter().flat_map(Attributes::entries).flatten() {
                in_block(&bytes).and_then(|attributes| attributes.value(entry));
            }
        }
    }
}
