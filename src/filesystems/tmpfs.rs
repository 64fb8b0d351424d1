// SPDX-License-Identifier: MIT OR Apache-2.0

//! tmpfs and devtmpfs: each byte "on disk" is memory or swap.

use std::time::Duration;

use super::driver::{Driver, Mounted};
use super::limits;
use crate::model::bytes::Bytes;
use crate::model::limits::Limits;
use crate::model::traits::{Command, Storage, Tools, Traits};

/// The driver.
pub(super) struct Tmpfs;

impl Driver for Tmpfs {
    fn serves(&self, fstype: &str) -> bool {
        matches!(fstype, "tmpfs" | "devtmpfs")
    }

    fn traits(&self, _fstype: &str) -> Traits {
        let add_inodes = Some(Command("mount -o remount,nr_inodes={number} {mountpoint}"));
        Traits {
            storage: Storage::Memory,
            tools: Tools { add_inodes, ..Tools::default() },
            ..Traits::default()
        }
    }

    fn limits(&self, on: Mounted<'_>, timeout: Duration) -> Limits {
        Limits { memory: memory(), ..limits::read(on, None, timeout) }
    }
}

/// `MemTotal`, `proc_meminfo(5)`.
fn memory() -> Option<Bytes> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}
