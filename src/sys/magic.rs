// SPDX-License-Identifier: MIT OR Apache-2.0

//! The numbers by which the kernel tells types of filesystems apart: include/uapi/linux/magic.h. Those that
//! hold files without any process, and are no place to keep data.

pub const BINFMTFS_MAGIC: u64 = 0x4249_4e4d;
pub const TRACEFS_MAGIC: u64 = 0x7472_6163;
pub const EROFS_SUPER_MAGIC_V1: u64 = 0xe0f5_e1e2;

/// The number of one of them, which statmount(2) tells and mountinfo does not; 0 for all others.
pub fn of_type(fstype: &str) -> u64 {
    match fstype {
        "binfmt_misc" => BINFMTFS_MAGIC,
        "tracefs" => TRACEFS_MAGIC,
        "erofs" => EROFS_SUPER_MAGIC_V1,
        _ => 0,
    }
}
