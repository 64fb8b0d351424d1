// SPDX-License-Identifier: MIT OR Apache-2.0

//! FUSE: a daemon of the user's answers, and may hang. What FUSE serves from a block device (`fuseblk`) is
//! like a filesystem on that.

use super::driver::Driver;
use crate::model::traits::{Storage, Traits};

/// The driver.
pub(super) struct Fuse;

impl Driver for Fuse {
    fn serves(&self, fstype: &str) -> bool {
        fstype == "fuse" || fstype.starts_with("fuse.")
    }

    fn traits(&self, _fstype: &str) -> Traits {
        // The kernel does not ask the daemon again where a link of /proc leads to the root: FUSE's dentries
        // have no `d_weak_revalidate` (fs/fuse/dir.c).
        Traits { storage: Storage::Server { revalidates_root: false }, ..Traits::default() }
    }
}
