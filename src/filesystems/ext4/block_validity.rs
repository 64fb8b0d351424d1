//! Which blocks a file may have: none of those that the filesystem keeps for itself
//! (fs/ext4/block_validity.c).

use nix::errno::Errno;

use super::format::CORRUPT;
use super::inode::Inode;
use super::map::{self, Budget, Run};
use super::overhead::places;
use super::volume::Volume;

/// The blocks of superblocks, descriptors, bitmaps, tables and the journal.
pub(super) struct SystemZone {
    /// In order, none of them touching the next; where each begins and ends.
    runs: Vec<(u64, u64)>,
    first_data_block: u64,
    blocks: u64,
}

impl SystemZone {
    /// `ext4_setup_system_zone`.
    pub(super) fn read(volume: &Volume<'_>) -> Result<Self, Errno> {
        let mut all = places(volume, volume.reserved_descriptors.into())?;
        if volume.is_inode(volume.journal) {
            let raw = volume.inode(volume.journal)?;
            let inode = Inode::new(&raw).ok_or(CORRUPT)?;
            map::runs(volume, volume.journal, inode, &Budget::of(volume), |run| all.push(run))?;
        }
        let (first_data_block, blocks) = (volume.first_data_block, volume.blocks);
        Ok(Self { runs: merged(all), first_data_block, blocks })
    }

    /// `ext4_inode_block_valid`.
    pub(super) fn allows(&self, Run { start, length }: Run) -> bool {
        let end = start.saturating_add(length);
        let next = self.runs.partition_point(|&(_, end)| end <= start);
        start > self.first_data_block
            && end <= self.blocks
            && self.runs.get(next).is_none_or(|&(next, _)| end <= next)
    }
}

fn merged(mut all: Vec<Run>) -> Vec<(u64, u64)> {
    all.retain(|run| run.length > 0);
    all.sort_unstable_by_key(|run| run.start);
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for Run { start, length } in all {
        let end = start.saturating_add(length);
        match runs.last_mut() {
            Some((_, last)) if *last >= start => *last = end.max(*last),
            _ => runs.push((start, end)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_beside_the_zone_are_a_files() {
        let run = |start, length| Run { start, length };
        let runs = merged(vec![run(40, 10), run(10, 0), run(20, 5), run(25, 5), run(22, 1)]);
        assert_eq!(runs, [(20, 30), (40, 50)]);
        let zone = SystemZone { runs, first_data_block: 1, blocks: 100 };
        for allowed in [run(2, 18), run(30, 10), run(50, 50), run(99, 1)] {
            assert!(zone.allows(allowed), "{allowed:?}");
        }
        let refused = [run(0, 1), run(1, 1), run(2, 19), run(29, 1), run(30, 11), run(10, 60), run(99, 2)];
        for refused in refused.into_iter().chain([run(u64::MAX, 1), run(100, 0x8000)]) {
            assert!(!zone.allows(refused), "{refused:?}");
        }
    }
}
