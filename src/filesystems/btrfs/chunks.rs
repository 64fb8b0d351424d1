// SPDX-License-Identifier: MIT OR Apache-2.0

//! btrfs hands its devices out in chunks, for data or for metadata, and takes them back only when they are
//! empty: metadata may be out of space while data has plenty. sysfs tells everybody
//! (Documentation/ABI has none of it; fs/btrfs/sysfs.c).

use std::fs;
use std::path::Path;

use crate::filesystems::limits::device::number;
use crate::model::bytes::Bytes;
use crate::model::limits::Chunks;

/// An operation sets aside a path through a tree for each item that it may touch, twice over
/// (`btrfs_calc_insert_metadata_size`, fs/btrfs/fs.h), and as much again for what follows from that
/// (`start_transaction`, fs/btrfs/transaction.c). With 16 KiB nodes a balance was refused with 6 MiB left
/// and a new file with 4 MiB, 384 and 256 nodes.
const NODES_OF_AN_OPERATION: u64 = 512;

/// What the filesystem's directory in sysfs says; nothing where data and metadata share their chunks
/// (`mkfs.btrfs --mixed`). `unallocated` is what is in no chunk yet, of each device.
pub(super) fn read(sysfs: &Path, unallocated: &[Bytes]) -> Option<Chunks> {
    let allocation = sysfs.join("allocation");
    let of = |part: &str| number(&allocation.join(part)).map(Bytes);
    let metadata = of("metadata/total_bytes")?;
    let spoken_for = [of("metadata/bytes_used"), of("metadata/bytes_readonly"), of("global_rsv_size")];
    let spoken_for: Option<Bytes> = spoken_for.into_iter().sum();
    let profiles = fs::read_dir(allocation.join("metadata")).ok()?.flatten();
    let profiles = profiles.filter_map(|entry| Profile::of(entry.file_name().to_str()?));
    let allocatable = profiles.map(|profile| profile.allocatable(unallocated)).min();
    Some(Chunks {
        data: of("data/total_bytes")?,
        data_used: of("data/bytes_used")?,
        metadata_left: metadata.saturating_sub(spoken_for?) + allocatable?,
        metadata,
        operation: Bytes(number(&sysfs.join("nodesize"))?.saturating_mul(NODES_OF_AN_OPERATION)),
    })
}

/// How chunks lie on the devices.
#[derive(Clone, Copy, Debug)]
struct Profile {
    /// On how many at least.
    devices: usize,
    /// In how many copies on each.
    copies: u64,
}

impl Profile {
    /// By its name in sysfs (`btrfs_raid_array`, fs/btrfs/volumes.c).
    fn of(name: &str) -> Option<Self> {
        let (devices, copies) = match name {
            "single" | "raid0" => (1, 1),
            "dup" => (1, 2),
            "raid1" | "raid10" | "raid5" => (2, 1),
            "raid1c3" | "raid6" => (3, 1),
            "raid1c4" => (4, 1),
            _ => return None,
        };
        Some(Self { devices, copies })
    }

    /// The largest chunk for which there is room on as many devices as it takes.
    fn allocatable(self, unallocated: &[Bytes]) -> Bytes {
        let mut unallocated = unallocated.to_vec();
        unallocated.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
        let least = unallocated.get(self.devices - 1).copied().unwrap_or_default();
        Bytes(least.0 / self.copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_takes_room_on_as_many_devices_as_its_profile_has() {
        let of = |profile, unallocated: &[u64]| {
            let unallocated: Vec<_> = unallocated.iter().copied().map(Bytes).collect();
            Profile::of(profile).unwrap().allocatable(&unallocated).0
        };
        assert_eq!(of("single", &[3, 8, 5]), 8);
        assert_eq!(of("dup", &[3, 8, 5]), 4);
        assert_eq!(of("raid1", &[3, 8, 5]), 5);
        assert_eq!(of("raid1c3", &[3, 8, 5]), 3);
        assert_eq!(of("raid1c4", &[3, 8, 5]), 0);
        assert!(Profile::of("size_classes").is_none());
    }
}
