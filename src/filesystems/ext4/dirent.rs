// SPDX-License-Identifier: MIT OR Apache-2.0

//! The entries of a directory: `struct ext4_dir_entry_2`, each with the way to the next. What the
//! hashed trees and the checksums need is packed into entries without an inode, so that all blocks can be
//! read alike (Documentation/filesystems/ext4/directory.rst).

use super::block_map::{self, Budget};
use super::error::Error;
use super::format::{dir_entry, flag, u8_at, u16_at, u32_at};
use super::inode::Inode;
use super::volume::Volume;

/// A name. Its bytes are those on the volume: in an encrypted directory they are a cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) inode: u32,
    pub(super) name: &'a [u8],
}

/// In blocks of 64 KiB the length of an entry that fills it does not fit: `ext4_rec_len_from_disk`.
const LARGEST_BLOCK: usize = 1 << 16;

/// What may be in the names of a directory.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// No larger number is an inode's.
    pub(super) inodes: u32,
    /// A cipher may have any bytes in it.
    pub(super) is_encrypted: bool,
}

impl Rules {
    pub(super) fn of(volume: &Volume<'_>, directory: Inode<'_>) -> Self {
        Self { inodes: volume.inodes, is_encrypted: directory.has(flag::ENCRYPT_FL) }
    }

    /// `verify_dirent_name` (fs/readdir.c) lets no slash pass, and behind a NUL nobody reads on.
    fn allow(self, name: &[u8]) -> bool {
        // Counted to the end: a search that stops early is slower on names this short.
        let bad = name.iter().filter(|&&byte| byte == 0 || byte == b'/').count();
        !name.is_empty() && (self.is_encrypted || bad == 0)
    }
}

/// Calls `each` with all entries of a block but `.` and `..`. What is checked is what the kernel does
/// (`__ext4_check_dir_entry`, fs/ext4/dir.c).
pub(super) fn of_block(block: &[u8], rules: Rules, mut each: impl FnMut(Entry<'_>)) -> Result<(), Error> {
    let mut rest = block;
    while !rest.is_empty() {
        let length = match usize::from(u16_at(rest, dir_entry::REC_LEN)?) {
            0 | 0xffff if block.len() == LARGEST_BLOCK => LARGEST_BLOCK,
            length => length,
        };
        let (this, next) = rest.split_at_checked(length).ok_or(Error::Corrupt)?;
        let name_length = usize::from(u8_at(this, dir_entry::NAME_LEN)?);
        let inode = u32_at(this, dir_entry::INODE)?;
        let fits = length >= dir_entry::SMALLEST
            && length.is_multiple_of(4)
            && length >= (dir_entry::NAME + name_length).next_multiple_of(4)
            && (next.is_empty() || next.len() >= dir_entry::SMALLEST);
        if !fits || inode > rules.inodes {
            return Err(Error::Corrupt);
        }
        if inode != 0 {
            let name = this.get(dir_entry::NAME..dir_entry::NAME + name_length).ok_or(Error::Corrupt)?;
            if !rules.allow(name) {
                return Err(Error::Corrupt);
            }
            if name != b"." && name != b".." {
                each(Entry { inode, name });
            }
        }
        rest = next;
    }
    Ok(())
}

/// The same for a directory that lies in its inode: behind its parent's number, in what is left of the
/// block map, and in an attribute.
fn of_inode(volume: &Volume<'_>, inode: Inode<'_>, mut each: impl FnMut(Entry<'_>)) -> Result<(), Error> {
    const PARENT: usize = 4;
    let (map, rules) = (inode.block(), Rules::of(volume, inode));
    of_block(map.get(PARENT..).ok_or(Error::Corrupt)?, rules, &mut each)?;
    if inode.size(volume) > map.len() as u64 {
        of_block(inode.more_inline()?, rules, each)?;
    }
    Ok(())
}

/// All entries of a directory, wherever they lie.
pub(super) fn of_directory(
    volume: &Volume<'_>,
    number: u32,
    inode: Inode<'_>,
    budget: &Budget,
    mut each: impl FnMut(Entry<'_>),
) -> Result<(), Error> {
    if inode.has(flag::INLINE_DATA_FL) {
        return of_inode(volume, inode, each);
    }
    let mut runs = Vec::new();
    block_map::runs(volume, number, inode, budget, |run| runs.push(run))?;
    for block in runs.into_iter().flat_map(|run| run.start..run.start + run.length) {
        of_block(&volume.block(block)?, Rules::of(volume, inode), &mut each)?;
    }
    Ok(())
}
