// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which names that are not visible are listed: the largest beneath each mount point, and outside
//! of the mount. No more of them are kept than are asked for. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::tree::{Id, Side};
use super::{MountPoint, Options, Tally};
use crate::model::bytes::Bytes;

/// How many levels below its root are listed of each side.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Of each mount point.
    pub(crate) hidden: Vec<u32>,
    /// Of what lies outside of the mount.
    pub(crate) outside: u32,
}

impl Listing {
    /// What `options` say is to be kept.
    pub(crate) fn new(mount_points: &[MountPoint<'_>], options: Options<'_>) -> Self {
        let levels = options.depth.map_or(1, |depth| u32::try_from(depth).unwrap_or(u32::MAX));
        let hidden = mount_points.iter().map(|point| if point.listed { levels } else { 0 });
        Self { hidden: hidden.collect(), outside: 1 }
    }

    pub(crate) fn levels(&self, side: Side) -> u32 {
        match side {
            Side::Visible => 0,
            Side::Hidden(mount) => self.hidden.get(mount).copied().unwrap_or(0),
            Side::Outside => self.outside,
        }
    }
}

/// A name that may be listed. They are ordered by size; then those of lower inode numbers come first,
/// so that every run says the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    bytes: Bytes,
    inode: Reverse<u64>,
    inodes: u64,
    /// The directory itself, or the one that has the name.
    pub(crate) directory: Id,
    /// A file's name.
    pub(crate) name: Option<Box<[u8]>>,
}

impl Candidate {
    pub(crate) fn file(allocated: u64, inode: u64, directory: Id, name: &[u8]) -> Self {
        let (bytes, inode, name) = (Bytes(allocated), Reverse(inode), Some(name.into()));
        Self { bytes, inode, inodes: 1, directory, name }
    }

    pub(crate) fn directory(sum: Tally, inode: u64, directory: Id) -> Self {
        let Tally { bytes, inodes } = sum;
        Self { bytes, inode: Reverse(inode), inodes, directory, name: None }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { bytes: self.bytes, inodes: self.inodes }
    }
}

/// The largest of each side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Largest {
    /// How many to keep of each.
    top: usize,
    /// The smallest on top.
    sides: BTreeMap<Side, BinaryHeap<Reverse<Candidate>>>,
}

impl Largest {
    pub(crate) fn new(top: usize) -> Self {
        Self { top, sides: BTreeMap::new() }
    }

    /// Whether a name of that size would be kept. Names that take up nothing are not.
    pub(crate) fn wants(&self, side: Side, bytes: Bytes) -> bool {
        let kept = self.sides.get(&side);
        let smallest = kept.filter(|kept| kept.len() >= self.top).map(BinaryHeap::peek);
        self.top > 0
            && bytes > Bytes::ZERO
            && smallest.flatten().is_none_or(|Reverse(smallest)| smallest.bytes <= bytes)
    }

    pub(crate) fn offer(&mut self, side: Side, candidate: Candidate) {
        if !self.wants(side, candidate.bytes) {
            return;
        }
        let kept = self.sides.entry(side).or_default();
        kept.push(Reverse(candidate));
        if kept.len() > self.top {
            kept.pop();
        }
    }

    /// Takes over what another thread has kept.
    pub(crate) fn append(&mut self, other: Self) {
        self.top = self.top.max(other.top);
        for (side, kept) in other.sides {
            for Reverse(candidate) in kept {
                self.offer(side, candidate);
            }
        }
    }

    /// The largest of one side, largest first.
    pub(crate) fn take(&mut self, side: Side) -> Vec<Candidate> {
        let kept = self.sides.remove(&side).unwrap_or_default();
        kept.into_sorted_vec().into_iter().map(|Reverse(candidate)| candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_each_side_are_kept_in_the_same_order_whoever_saw_them() {
        let file = |bytes, inode| Candidate::file(bytes, inode, 0, b"name");
        let (mut first, mut second) = (Largest::new(2), Largest::new(2));
        for (bytes, inode) in [(0, 1), (5, 9), (7, 3), (5, 4)] {
            first.offer(Side::Outside, file(bytes, inode));
        }
        second.offer(Side::Outside, file(5, 8));
        second.offer(Side::Hidden(1), file(1, 5));
        assert!(!first.wants(Side::Outside, Bytes(4)) && first.wants(Side::Hidden(0), Bytes(4)));
        let mut all = Largest::default();
        all.append(second);
        all.append(first);
        assert_eq!(all.take(Side::Outside), [file(7, 3), file(5, 4)]);
        assert_eq!(all.take(Side::Hidden(1)), [file(1, 5)]);
        assert_eq!(all.take(Side::Hidden(0)), []);
    }
}
