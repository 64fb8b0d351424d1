// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a filesystem itself records: the view from below. Its own list of the inodes without a name
//! is complete whoever holds them, and needs no holder to look at them; where its driver knows how, all that
//! the walk finds is known from below, too, and what the filesystem keeps for itself. Also how it is made.
//!
//! Each filesystem has a driver. Another one takes a module and a line in `DRIVERS`.

mod btrfs;
mod driver;
pub mod errors;
mod ext4;
mod fuse;
mod limits;
mod other;
mod overlay;
#[cfg(test)]
mod tests;
mod tmpfs;
mod unable;
mod unlinked;
mod xfs;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use self::driver::Driver;
pub use self::driver::{Internal, Mounted, Request};
#[cfg(fuzzing)]
pub use self::ext4::look_everywhere;
pub use self::unable::Unable;
pub use self::unlinked::{Listing, Unlinked};
use crate::model::limits::Limits;
use crate::model::traits::{Operands, TraitsOf};
use crate::model::usage::Census;
use crate::mounts::Mount;
use crate::sys::scout;

/// All drivers but the one for all other types.
const DRIVERS: [&dyn Driver; 6] =
    [&ext4::Ext4, &xfs::Xfs, &btrfs::Btrfs, &tmpfs::Tmpfs, &overlay::Overlay, &fuse::Fuse];

/// What the drivers say of each type.
pub const TRAITS_OF: TraitsOf = TraitsOf(|fstype| driver(fstype).traits(fstype));

fn driver(fstype: &str) -> &'static dyn Driver {
    DRIVERS.into_iter().find(|driver| driver.serves(fstype)).unwrap_or(&other::Other)
}

impl Mounted<'_> {
    fn driver(self) -> &'static dyn Driver {
        driver(&self.mount.fstype)
    }

    /// The inodes without a name. An error where there is no right to them, or where the filesystem is not
    /// what it claims to be.
    pub fn unlinked(self) -> Result<Listing, Unable> {
        self.driver().unlinked(self)
    }

    /// Those of them that have this number, opened with `O_PATH`; `None` where no list is kept.
    pub fn open_unlinked(self, inode: u64) -> Result<Option<Vec<(OwnedFd, Unlinked)>>, Unable> {
        self.driver().open_unlinked(self, inode)
    }

    /// Everything below the root of the mount, read from below, and what the filesystem needs besides.
    pub fn census(self, request: &Request<'_>) -> Result<(Census, Internal), Unable> {
        self.driver().census(self, request)
    }

    /// What the filesystem needs besides what its files take up, alone.
    pub fn internal(self, request: &Request<'_>) -> Result<Internal, Unable> {
        self.driver().internal(self, request)
    }

    /// Asks the filesystem to write out what is in memory only, if that would be missed from below, and
    /// waits for that, but no longer than `timeout`.
    pub fn sync_out(self, timeout: Duration) {
        if self.driver().lags(self.mount) {
            // What has not been written by then is known in all.
            let _ = self.reopen().and_then(|root| scout::syncs(root.as_fd(), timeout));
        }
    }

    /// What limits the filesystem besides its bytes. May wait up to half of `timeout` for a user database,
    /// and up to `timeout` for the filesystem that an image lies on.
    pub fn limits(self, timeout: Duration) -> Limits {
        self.driver().limits(self, timeout)
    }
}

/// The command that says how the filesystem of `mount` is damaged, and changes nothing. It takes one that is
/// not mounted to be reliable, or to run at all.
pub fn check(mount: &Mount) -> Option<Vec<String>> {
    let device = Path::new(&mount.source);
    let on = Operands { device, mountpoint: &mount.mountpoint, number: 1 };
    mount.traits.tools.check.filter(|_| device.is_absolute())?.words(&on)
}
