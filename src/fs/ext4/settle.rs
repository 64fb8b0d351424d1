//! A volume changes while it is read. What was copied at the wrong moment looks damaged, and has to
//! be looked at again before it is called so.

use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use super::format::CORRUPT;
use super::inode::Inode;
use super::volume::Volume;

/// How often a directory is looked at before it is taken for damaged: with a millisecond to begin with,
/// for a second. Whoever changes it may have to wait for a processor in the middle of that.
const TRIES: u32 = 10;

/// Calls `look` with a fresh copy of a directory's inode until that makes sense; `None` when it is no
/// directory any more. `pause` lies behind the first try,
/// twice that behind the next.
pub(super) fn settled<T>(
    volume: &Volume<'_>,
    directory: u32,
    pause: Duration,
    mut look: impl FnMut(Inode<'_>) -> Result<T, Errno>,
) -> Result<Option<T>, Errno> {
    for doubled in 0..TRIES {
        let raw = volume.inode(directory)?;
        let inode = Inode::new(&raw).ok_or(CORRUPT)?;
        if !inode.is_directory() || inode.links() == 0 {
            return Ok(None);
        }
        match look(inode) {
            Err(CORRUPT) => sleep(pause * (1 << doubled)),
            looked => return looked.map(Some),
        }
    }
    Err(CORRUPT)
}
