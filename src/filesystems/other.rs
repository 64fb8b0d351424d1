// SPDX-License-Identifier: MIT OR Apache-2.0

//! All filesystems without a driver of their own: what is known of some is no more than where their data are.

use super::driver::Driver;
use crate::model::traits::{Storage, Subvolumes, Traits};

/// The driver for whatever no other serves.
pub(super) struct Other;

impl Driver for Other {
    fn serves(&self, _fstype: &str) -> bool {
        true
    }

    fn traits(&self, fstype: &str) -> Traits {
        let of = |storage| Traits { storage, ..Traits::default() };
        match fstype {
            "bcachefs" => Traits {
                subvolumes: Some(Subvolumes { root_inode: None }),
                shared_extents: true,
                ..of(Storage::Devices)
            },
            "zfs" => Traits { shared_extents: true, ..of(Storage::Devices) },
            "ubifs" => of(Storage::Devices),
            "ocfs2" => Traits { shared_extents: true, ..Traits::default() },
            "squashfs" | "iso9660" | "erofs" | "cramfs" | "romfs" => of(Storage::ReadOnlyImage),
            // Their dentries have `d_weak_revalidate` (fs/nfs/dir.c, fs/9p/vfs_dentry.c).
            "nfs" | "nfs4" | "9p" => of(Storage::Server { revalidates_root: true }),
            "cifs" | "smb3" | "smbfs" | "virtiofs" | "ceph" | "afs" | "lustre" => {
                of(Storage::Server { revalidates_root: false })
            }
            _ => Traits::default(),
        }
    }
}
