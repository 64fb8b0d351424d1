// SPDX-License-Identifier: MIT OR Apache-2.0

//! overlayfs shows the files of other filesystems, and keeps no data of its own.

use super::driver::Driver;
use crate::model::traits::{Storage, Traits};

/// The driver.
pub(super) struct Overlay;

impl Driver for Overlay {
    fn serves(&self, fstype: &str) -> bool {
        fstype == "overlay"
    }

    fn traits(&self, _fstype: &str) -> Traits {
        Traits { storage: Storage::Layers, ..Traits::default() }
    }
}
