//! The inodes without a name, where no list of them is kept: all tables have to be read.

use nix::errno::Errno;

use super::groups::groups;
use super::inodes::in_use;
use super::layout::{ReadAt, Volume};

/// What it takes to open an inode by its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nameless {
    pub(super) inode: u32,
    pub(super) generation: u32,
}

/// All inodes that are in use and have no name. Whatever was one during the whole call is among them;
/// a few others are being made or freed at this moment.
pub(super) fn list<R: ReadAt + ?Sized>(volume: &Volume<'_, R>) -> Result<Vec<Nameless>, Errno> {
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    for group in groups(volume)? {
        in_use(volume, &group, &mut buffer, |number, inode| {
            // The filesystem's own inodes need no name. Without a mode it has not been written yet.
            if number >= volume.first_inode && inode.links() == 0 && inode.mode() != 0 {
                found.push(Nameless { inode: number, generation: inode.generation() });
            }
        })?;
    }
    Ok(found)
}
