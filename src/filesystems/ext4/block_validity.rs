// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which blocks a file may have: none of those that the filesystem keeps for itself
//! (`fs/ext4/block_validity.c`).

use super::block_map::{self, Budget, Run};
use super::error::Error;
use super::inode::Inode;
use super::overhead::fixed_runs;
use super::volume::Volume;

/// The blocks of superblocks, descriptors, bitmaps, tables and the journal.
pub(super) struct SystemZone {
    /// In order, none of them touching the next; where each begins and ends.
    runs: Vec<(u64, u64)>,
    /// For each so many blocks, how many runs end before them: a search among few others is soon over.
    before: Vec<usize>,
    first_data_block: u64,
    blocks: u64,
}

/// As a power of two.
const BLOCKS_TOGETHER: u32 = 15;

impl SystemZone {
    /// `ext4_setup_system_zone`.
    pub(super) fn read(volume: &Volume<'_>) -> Result<Self, Error> {
        let mut all = fixed_runs(volume, volume.reserved_gdt_blocks.into())?;
        if volume.is_inode(volume.journal) {
            let raw = volume.inode(volume.journal)?;
            let inode = Inode::new(&raw).ok_or(Error::Corrupt)?;
            block_map::runs(volume, volume.journal, inode, &Budget::of(volume), |run| all.push(run))?;
        }
        Ok(Self::new(all, volume.first_data_block, volume.blocks))
    }

    fn new(runs: Vec<Run>, first_data_block: u64, blocks: u64) -> Self {
        let runs = merged(runs);
        let starts = (0..=blocks >> BLOCKS_TOGETHER).map(|number| number << BLOCKS_TOGETHER);
        let before = starts.map(|start| runs.partition_point(|&(_, end)| end <= start)).collect();
        Self { runs, before, first_data_block, blocks }
    }

    /// `ext4_inode_block_valid`.
    pub(super) fn allows(&self, Run { start, length }: Run) -> bool {
        let end = start.saturating_add(length);
        if start <= self.first_data_block || end > self.blocks {
            return false;
        }
        let number = usize::try_from(start >> BLOCKS_TOGETHER).unwrap_or(usize::MAX);
        let before = |number: usize| self.before.get(number).copied();
        let (first, last) = (before(number).unwrap_or(0), number.checked_add(1).and_then(before));
        let near = self.runs.get(first..last.unwrap_or(self.runs.len())).unwrap_or_default();
        let next = self.runs.get(first + near.partition_point(|&(_, end)| end <= start));
        next.is_none_or(|&(next, _)| end <= next)
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
        let runs = vec![run(40, 10), run(10, 0), run(20, 5), run(25, 5), run(22, 1)];
        let zone = SystemZone::new(runs, 1, 100);
        assert_eq!(zone.runs, [(20, 30), (40, 50)]);
        for allowed in [run(2, 18), run(30, 10), run(50, 50), run(99, 1)] {
            assert!(zone.allows(allowed), "{allowed:?}");
        }
        let refused = [run(0, 1), run(1, 1), run(2, 19), run(29, 1), run(30, 11), run(10, 60), run(99, 2)];
        for refused in refused.into_iter().chain([run(u64::MAX, 1), run(100, 0x8000)]) {
            assert!(!zone.allows(refused), "{refused:?}");
        }
    }

    #[test]
    fn far_blocks_are_looked_for_among_their_neighbours() {
        let run = |start, length| Run { start, length };
        let zone = SystemZone::new(vec![run(10, 5), run(1 << 17, 8), run((1 << 17) + 20, 1)], 0, 1 << 20);
        for start in (9..20).chain((1 << 17) - 2..(1 << 17) + 30).chain([1 << 16, (1 << 20) - 1]) {
            let taken = zone.runs.iter().any(|&(from, end)| (from..end).contains(&start));
            assert_eq!(zone.allows(run(start, 1)), !taken, "{start}");
        }
    }
}
