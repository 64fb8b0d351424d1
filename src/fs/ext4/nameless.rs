//! The inodes without a name, where no list of them is kept: all tables have to be read.

use nix::errno::Errno;

use super::groups::groups;
use super::inodes::in_use;
use super::own::Role;
use super::volume::Volume;

/// What it takes to open an inode by its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nameless {
    pub(super) inode: u32,
    pub(super) generation: u32,
}

/// All inodes that are in use and have no name. Whatever was one during the whole call is among them;
/// a few others are being made or freed at this moment.
pub(super) fn list(volume: &Volume<'_>) -> Result<Vec<Nameless>, Errno> {
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    for group in groups(volume)? {
        in_use(volume, &group, &mut buffer, |number, inode| {
            if Role::of(volume, number, inode) == Role::Nameless {
                found.push(Nameless { inode: number, generation: inode.generation() });
            }
            Ok(())
        })?;
    }
    Ok(found)
}
