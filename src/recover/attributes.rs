//! Mode, owner, times and extended attributes of the original.

use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown};
use xattr::FileExt;

use super::{errno, metadata};
use crate::error::describe;
use crate::escape;

/// Permissions with set-user-ID, set-group-ID and sticky bit; without them.
const ALL_BITS: u32 = 0o7777;
const PLAIN_BITS: u32 = 0o777;

/// Gives `copy` what `source` has. What could not be given is told, one sentence each.
pub(super) fn preserve(source: &File, copy: &File) -> Result<Vec<String>, Errno> {
    let mut notes = Vec::new();
    let original = metadata(source)?;
    let (owner, group) = (Uid::from_raw(original.uid()), Gid::from_raw(original.gid()));
    let given = fchown(copy, Some(owner), Some(group));
    if let Err(errno) = given {
        notes.push(format!("Its owner ({owner}:{group}) was not kept: {}.", errno.desc()));
    }
    notes.extend(extended(source, copy));
    // After the owner, whose change takes bits away; and never a set-user-ID file of another owner's.
    let bits = if given.is_ok() { ALL_BITS } else { PLAIN_BITS };
    let mode = Permissions::from_mode(original.mode() & bits);
    copy.set_permissions(mode).map_err(|error| errno(&error))?;
    let mut times = FileTimes::new();
    if let Ok(accessed) = original.accessed() {
        times = times.set_accessed(accessed);
    }
    if let Ok(modified) = original.modified() {
        times = times.set_modified(modified);
    }
    copy.set_times(times).map_err(|error| errno(&error))?;
    Ok(notes)
}

fn extended(source: &File, copy: &File) -> Vec<String> {
    let names = match source.list_xattr() {
        Ok(names) => names,
        // Also where there are no such attributes.
        Err(error) if errno(&error) == Errno::EOPNOTSUPP => return Vec::new(),
        Err(error) => return vec![format!("Its extended attributes were not kept: {}.", describe(&error))],
    };
    let mut notes = Vec::new();
    for name in names {
        let value = source.get_xattr(&name);
        let kept = value.and_then(|value| value.map_or(Ok(()), |value| copy.set_xattr(&name, &value)));
        if let Err(error) = kept {
            let name = escape::bytes(name.as_encoded_bytes());
            notes.push(format!("Its attribute {name} was not kept: {}.", describe(&error)));
        }
    }
    notes
}
