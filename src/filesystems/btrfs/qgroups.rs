// SPDX-License-Identifier: MIT OR Apache-2.0

//! The quotas of subvolumes, as sysfs tells them.

use std::fs;
use std::path::Path;

use crate::filesystems::limits::device::number;
use crate::filesystems::limits::quota::{is_short, is_used_up};
use crate::model::limits::{Amount, Owner, Quota};

/// Those that are used up or nearly so. `sysfs` is the filesystem's directory (fs/btrfs/sysfs.c, Linux 5.9).
pub(super) fn short(sysfs: &Path) -> Option<Vec<Quota>> {
    let groups = fs::read_dir(sysfs.join("qgroups")).ok()?.flatten();
    Some(groups.filter_map(|group| qgroup(&group.path())).collect())
}

/// A directory `0_256` with a number in each of its files.
fn qgroup(directory: &Path) -> Option<Quota> {
    /// `BTRFS_QGROUP_LIMIT_MAX_RFER` and `_EXCL` (include/uapi/linux/btrfs.h).
    const LIMITS: [(u64, &str, &str); 2] =
        [(1, "referenced", "max_referenced"), (2, "exclusive", "max_exclusive")];
    let value = |name: &str| number(&directory.join(name));
    let name = directory.file_name()?.to_str()?.replace('_', "/");
    let flags = value("limit_flags")?;
    LIMITS.iter().filter(|(flag, ..)| flags & flag != 0).find_map(|(_, used, limit)| {
        let (used, limit) = (value(used)?, value(limit)?);
        let refuses = is_used_up(Amount::Bytes, used, limit);
        let owner = Owner::Qgroup(name.clone());
        is_short(used, limit).then_some(Quota { owner, amount: Amount::Bytes, used, limit, refuses })
    })
}
