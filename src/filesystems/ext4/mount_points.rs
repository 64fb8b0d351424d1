// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which inodes lie beneath mount points: their names looked up on the volume, where no mount is in
//! the way.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::block_map::Budget;
use super::dirent::of_directory;
use super::error::Error;
use super::format::flag;
use super::inode::Inode;
use super::names::CoveredNames;
use super::reread::reread_directory;
use super::reserved_inodes::ROOT;
use super::volume::Volume;
use crate::model::usage::MountPoint;

/// What mounts lie over, with the mounts' numbers.
#[derive(Debug, Default)]
pub(super) struct CoveredInodes {
    /// Directories, by inode.
    pub(super) directories: HashMap<u32, usize>,
    pub(super) files: CoveredNames,
}

/// Looks all mount points up. `EncodedName` where the names on the volume are
/// not those that the mount points have: in encrypted and in case-insensitive directories.
pub(super) fn look_up(volume: &Volume<'_>, mount_points: &[MountPoint<'_>]) -> Result<CoveredInodes, Error> {
    let mut covered = CoveredInodes::default();
    for (number, MountPoint { path, .. }) in mount_points.iter().enumerate() {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        // Whatever is not there is hidden by nothing: it has been removed, and the mount with it.
        let Some(parent) = descend(volume, parent)? else { continue };
        let Some(inode) = child(volume, parent, name)? else { continue };
        let raw = volume.inode(inode)?;
        if Inode::new(&raw).ok_or(Error::Corrupt)?.is_directory() {
            covered.directories.insert(inode, number);
        } else {
            let names = covered.files.entry(parent).or_default();
            names.push((name.as_bytes().to_vec(), number));
        }
    }
    Ok(covered)
}

fn descend(volume: &Volume<'_>, path: &Path) -> Result<Option<u32>, Error> {
    let mut at = ROOT;
    for name in path {
        match child(volume, at, name)? {
            Some(inode) => at = inode,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn child(volume: &Volume<'_>, directory: u32, name: &OsStr) -> Result<Option<u32>, Error> {
    let found = reread_directory(volume, directory, |inode| {
        let mut found = None;
        of_directory(volume, directory, inode, &Budget::of(volume), |entry| {
            if entry.name == name.as_bytes() {
                found = Some(entry.inode);
            }
        })?;
        let is_other = inode.has(flag::ENCRYPT_FL) || inode.has(flag::CASEFOLD_FL);
        if found.is_none() && is_other { Err(Error::EncodedName) } else { Ok(found) }
    })?;
    Ok(found.flatten())
}
