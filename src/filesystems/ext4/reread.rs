// SPDX-License-Identifier: MIT OR Apache-2.0

//! A volume changes while it is read. What was copied at the wrong moment looks damaged, and has to
//! be looked at again before it is called so.

use std::thread::sleep;

use super::error::Error;
use super::iget::Iget;
use super::inode::Inode;
use super::reserved_inodes::Role;
use super::volume::Volume;
use crate::filesystems::unlinked::Damaged;

/// How often something is looked at before it is taken for damaged: with a millisecond to begin with,
/// for a second. Whoever changes it may have to wait for a processor in the middle of that.
const TRIES: u32 = 10;

/// So many inodes at once do not look damaged because they are being written.
const MOST_DOUBTFUL: usize = 1 << 14;

/// Calls `look` until that makes sense. The volume's pause lies behind the first try, twice that behind the next.
pub(super) fn reread_until_stable<T>(
    volume: &Volume<'_>,
    mut look: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    for doubled in 0..TRIES {
        match look() {
            Err(Error::Corrupt) => sleep(volume.pause() * (1 << doubled)),
            looked => return looked,
        }
    }
    Err(Error::Corrupt)
}

/// Calls `look` with a fresh copy of a directory's inode until that makes sense; `None` when it is no
/// directory any more.
pub(super) fn reread_directory<T>(
    volume: &Volume<'_>,
    directory: u32,
    mut look: impl FnMut(Inode<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    reread_until_stable(volume, || {
        let raw = volume.inode(directory)?;
        let inode = Inode::new(&raw).ok_or(Error::Corrupt)?;
        if !inode.is_directory() || inode.links() == 0 {
            return Ok(None);
        }
        look(inode).map(Some)
    })
}

/// Looks again at inodes that look damaged, at all of them together. Calls `sound` with those that do not
/// any more, and returns the others. Those that are not in use any more are neither.
pub(super) fn recheck_inodes(
    iget: &Iget<'_>,
    mut doubtful: Vec<u32>,
    mut sound: impl FnMut(u32, Inode<'_>) -> Result<(), Error>,
) -> Result<Vec<Damaged>, Error> {
    if doubtful.len() > MOST_DOUBTFUL {
        return Err(Error::Corrupt);
    }
    let volume = iget.volume;
    let mut damaged = Vec::new();
    for doubled in 0..TRIES {
        damaged.clear();
        for number in std::mem::take(&mut doubtful) {
            let raw = volume.inode(number)?;
            let inode = Inode::new(&raw).ok_or(Error::Corrupt)?;
            if !volume.is_in_use(number)? {
                continue;
            }
            let role = Role::of(volume, number, inode);
            match iget.check(role, number, inode) {
                Ok(()) => sound(number, inode)?,
                Err(bad) => {
                    doubtful.push(number);
                    damaged.push(Damaged { inode: number.into(), errno: bad.errno() });
                }
            }
        }
        if damaged.is_empty() {
            break;
        }
        sleep(volume.pause() * (1 << doubled));
    }
    Ok(damaged)
}
