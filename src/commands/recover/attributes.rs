// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mode, owner, times and extended attributes of the original, as far as they give nobody a right that the
//! original did not: its name is gone, so until now only its holders could read or run it, and its
//! filesystem may have been one that was not trusted (`nosuid`, FUSE).

use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown};
use xattr::FileExt;

use super::copy::Failure;
use super::metadata;
use crate::model::errno::{describe, errno};
use crate::model::escape;

/// The access control list: acl(5).
const ACL: &str = "system.posix_acl_access";

/// What became of the original's access control list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acl {
    /// It had none.
    None,
    /// The copy has it.
    Kept,
    /// The copy does not have it, or nobody knows whether there was one.
    Lost,
}

/// Gives `copy`, which only the caller may read, what `source` has. Returns what was not given, one sentence
/// each. The mode comes last: a change of the owner takes bits of it away, and until then nobody else can
/// open the copy.
pub(super) fn preserve(source: &File, copy: &File) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    let original = metadata(source).map_err(Failure::Source)?;
    let mode = original.mode();
    let group_is_kept = take_owner(copy, original.uid(), original.gid(), &mut notes);
    let acl = extended(source, copy, &mut notes);
    let bits = permissions(mode, group_is_kept, acl);
    let (was, is) = (mode & 0o7777, bits);
    if bits != mode & 0o777 {
        notes.push(format!(
            "Its mode was {was:04o} and is {is:04o}: the full mode could give others new rights."
        ));
    } else if was != is {
        notes.push(format!(
            "Its mode was {was:04o} and is {is:04o}: set-user-ID, set-group-ID and sticky bit are never kept."
        ));
    }
    copy.set_permissions(Permissions::from_mode(bits)).map_err(|error| Failure::Copy(errno(&error)))?;
    let mut times = FileTimes::new();
    if let Ok(accessed) = original.accessed() {
        times = times.set_accessed(accessed);
    }
    if let Ok(modified) = original.modified() {
        times = times.set_modified(modified);
    }
    copy.set_times(times).map_err(|error| Failure::Copy(errno(&error)))?;
    Ok(notes)
}

/// Gives it its owner and group, or at least the group. Returns whether it has the group.
fn take_owner(copy: &File, owner: u32, group: u32, notes: &mut Vec<String>) -> bool {
    let Err(errno) = fchown(copy, Some(Uid::from_raw(owner)), Some(Gid::from_raw(group))) else {
        return true;
    };
    notes.push(format!("Its owner ({owner}:{group}) was not kept: {}.", errno.desc()));
    fchown(copy, None, Some(Gid::from_raw(group))).is_ok()
}

/// The permissions that give nobody more than `mode` did. Of another group, who was a member of the old one
/// is anybody now, and who is a member of the new one was anybody before. Without the access control
/// list, nobody knows what it took from whom: the group's bits are only its mask.
fn permissions(mode: u32, group_is_kept: bool, acl: Acl) -> u32 {
    let (owner, group, other) = (mode & 0o700, mode >> 3 & 0o7, mode & 0o7);
    let (group, other) = match (acl, group_is_kept) {
        (Acl::Lost, _) | (Acl::Kept, false) => (0, 0),
        (Acl::None, false) => (group & other, group & other),
        (Acl::None | Acl::Kept, true) => (group, other),
    };
    owner | group << 3 | other
}

/// Gives it the extended attributes that give no rights, and the access control list.
fn extended(source: &File, copy: &File, notes: &mut Vec<String>) -> Acl {
    let names = match source.list_xattr() {
        Ok(names) => names,
        // Also where there are no such attributes.
        Err(error) if errno(&error) == Errno::EOPNOTSUPP => return Acl::None,
        Err(error) => {
            notes.push(format!("Its extended attributes were not kept: {}.", describe(&error)));
            return Acl::Lost;
        }
    };
    let (kept, left_out): (Vec<OsString>, _) = names.partition(|name| gives_no_rights(name));
    let mut acl = if kept.iter().any(|name| name == ACL) { Acl::Kept } else { Acl::None };
    for name in kept {
        let value = source.get_xattr(&name);
        let given = value.and_then(|value| value.map_or(Ok(()), |value| copy.set_xattr(&name, &value)));
        if let Err(error) = given {
            if name == ACL {
                acl = Acl::Lost;
            }
            notes.push(format!("Its attribute {} was not kept: {}.", shown(&name), describe(&error)));
        }
    }
    if !left_out.is_empty() {
        let left_out: Vec<String> = left_out.iter().map(|name| shown(name)).collect();
        notes.push(format!("Attributes that could give rights are never kept: {}.", left_out.join(", ")));
    }
    acl
}

/// `security.capability` makes a program privileged, other names of that kind and `trusted.` are for the
/// kernel and for root's own programs: xattr(7).
fn gives_no_rights(name: &OsStr) -> bool {
    name == ACL || name.as_encoded_bytes().starts_with(b"user.")
}

fn shown(name: &OsStr) -> String {
    escape::bytes(name.as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_another_group_nobody_gets_more_than_both_had() {
        assert_eq!(permissions(0o6754, true, Acl::None), 0o754);
        assert_eq!(permissions(0o644, false, Acl::None), 0o644);
        assert_eq!(permissions(0o640, false, Acl::None), 0o600);
        assert_eq!(permissions(0o604, false, Acl::None), 0o600);
        assert_eq!(permissions(0o664, false, Acl::None), 0o644);
        assert_eq!(permissions(0o664, true, Acl::Kept), 0o664);
        assert_eq!(permissions(0o664, true, Acl::Lost), 0o600);
        assert_eq!(permissions(0o664, false, Acl::Kept), 0o600);
    }

    proptest::proptest! {
        #[test]
        fn bits_are_only_taken_away(mode in 0_u32..0o10000, group: bool) {
            for acl in [Acl::None, Acl::Kept, Acl::Lost] {
                proptest::prop_assert_eq!(permissions(mode, group, acl) & !(mode & 0o777), 0);
            }
        }
    }
}
