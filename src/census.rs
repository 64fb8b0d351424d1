//! What was read of a tree of directories, from above or from below, put together: totals for every
//! directory, each inode with several names once. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::bytes::Bytes;
use crate::skip::Skip;
use crate::sys::Dev;

/// How to look, and what to keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A fixed number of threads. Without: one for each core, and more while they wait for a disk.
    pub threads: Option<NonZero<usize>>,
    /// How many of the largest directories to keep.
    pub directories: usize,
    /// How deep below the root those may be.
    pub depth: Option<usize>,
}

/// What was found below the root of a filesystem.
#[derive(Debug)]
pub struct Census {
    /// What `du -sx` counts.
    pub visible: Tally,
    /// What each mount point hides, or why that could not be looked at.
    pub hidden: Result<Vec<Tally>, Errno>,
    /// The largest visible directories, largest first.
    pub directories: Vec<Directory>,
    /// What could not be read, in the order of kind and path.
    pub skips: Vec<Skip>,
    /// How much was counted too little or too much because names changed meanwhile, where that is known.
    pub moved: Bytes,
}

/// A directory's number: a parent's is always smaller.
pub(crate) type Id = u32;

/// The root's.
pub(crate) const ROOT: Id = 0;

/// Whether something counts as visible, or is hidden by which mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Visible,
    Hidden(usize),
}

/// Bytes and how many inodes they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Allocated bytes.
    pub bytes: Bytes,
    /// Inodes, each once.
    pub inodes: u64,
}

impl Tally {
    /// Counts one more inode.
    pub(crate) fn count(&mut self, allocated: u64) {
        self.bytes += Bytes(allocated);
        self.inodes += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// One name of an inode that has several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) dev: Dev,
    pub(crate) inode: u64,
    pub(crate) allocated: u64,
    pub(crate) directory: Id,
}

/// A directory, or a file with a mount over it, which is on another side than its directory.
#[derive(Clone, Copy, Debug)]
struct Node {
    id: Id,
    parent: Id,
    inode: u64,
    name: (usize, u16),
    side: Side,
    own: Tally,
}

/// What one thread has read.
#[derive(Debug, Default)]
pub(crate) struct Records {
    nodes: Vec<Node>,
    names: Vec<u8>,
    links: Vec<Link>,
    /// What was read of directories that another thread opened.
    additions: Vec<(Id, Tally)>,
}

impl Records {
    /// A directory with what it holds directly, its own blocks included.
    pub(crate) fn directory(&mut self, id: Id, parent: Id, inode: u64, name: &[u8], side: Side, own: Tally) {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.nodes.push(Node { id, parent, inode, name: (self.names.len(), length), side, own });
        self.names.extend_from_slice(&name[..usize::from(length)]);
    }

    /// More of what a directory holds directly.
    pub(crate) fn addition(&mut self, id: Id, tally: Tally) {
        self.additions.push((id, tally));
    }

    /// A name of an inode with several.
    pub(crate) fn link(&mut self, link: Link) {
        self.links.push(link);
    }
}

/// One directory with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Relative to the root of the walk.
    pub path: PathBuf,
    /// Like du: everything in it and below, and itself.
    pub tally: Tally,
}

/// All that was read.
pub(crate) struct Tree {
    /// By id. A directory that was counted but never recorded has a node of its own without name.
    nodes: Vec<Node>,
    names: Vec<u8>,
}

impl Tree {
    /// Puts the threads' records together; `directories` is how many ids were given out.
    pub(crate) fn new(records: Vec<Records>, directories: u32) -> Self {
        let absent = Node {
            id: ROOT,
            parent: ROOT,
            inode: 0,
            name: (0, 0),
            side: Side::Visible,
            own: Tally::default(),
        };
        let mut tree = Self { nodes: vec![absent; directories as usize], names: Vec::new() };
        let (mut links, mut additions) = (Vec::new(), Vec::new());
        for mut record in records {
            for mut node in record.nodes {
                node.name.0 += tree.names.len();
                tree.nodes[node.id as usize] = node;
            }
            tree.names.append(&mut record.names);
            links.append(&mut record.links);
            additions.append(&mut record.additions);
        }
        for (id, tally) in additions {
            tree.nodes[id as usize].own.add(tally);
        }
        tree.count_links(links);
        tree
    }

    /// Counts each inode with several names once: where it can be seen, if anywhere, and there in
    /// the directory with the lowest inode number, so that every run says the same.
    fn count_links(&mut self, mut links: Vec<Link>) {
        let place = |link: &Link| {
            let directory = &self.nodes[link.directory as usize];
            (directory.side, directory.inode)
        };
        links.sort_unstable_by_key(|link| (link.dev, link.inode, place(link)));
        links.dedup_by_key(|link| (link.dev, link.inode));
        for link in links {
            self.nodes[link.directory as usize].own.count(link.allocated);
        }
    }

    /// The totals of what is visible, and of what each of `mounts` mount points hides.
    pub(crate) fn sides(&self, mounts: usize) -> (Tally, Vec<Tally>) {
        let (mut visible, mut hidden) = (Tally::default(), vec![Tally::default(); mounts]);
        for node in &self.nodes {
            match node.side {
                Side::Visible => visible.add(node.own),
                Side::Hidden(mount) => {
                    if let Some(tally) = hidden.get_mut(mount) {
                        tally.add(node.own);
                    }
                }
            }
        }
        (visible, hidden)
    }

    /// The `top` largest visible directories at most `depth` below the root, largest first. The
    /// root is left out: it is the whole.
    pub(crate) fn largest(&self, top: usize, depth: Option<usize>) -> Vec<Directory> {
        let mut sums: Vec<Tally> = self.nodes.iter().map(|node| node.own).collect();
        let mut depths = vec![0_u32; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().skip(1) {
            depths[id] = depths[node.parent as usize].saturating_add(1);
        }
        for (id, node) in self.nodes.iter().enumerate().skip(1).rev() {
            if node.side == Side::Visible {
                let sum = sums[id];
                sums[node.parent as usize].add(sum);
            }
        }
        let shown = |id: &usize| {
            let node = &self.nodes[*id];
            node.name.1 > 0
                && node.side == Side::Visible
                && depth.is_none_or(|depth| depths[*id] as usize <= depth)
        };
        let mut heap = BinaryHeap::with_capacity(top + 1);
        for id in (1..self.nodes.len()).filter(shown) {
            heap.push(Reverse((sums[id].bytes, Reverse(self.nodes[id].inode), id)));
            if heap.len() > top {
                heap.pop();
            }
        }
        let largest = heap.into_sorted_vec().into_iter();
        largest.map(|Reverse((_, _, id))| Directory { path: self.path(id), tally: sums[id] }).collect()
    }

    /// A directory's path, relative to the root of the walk.
    pub(crate) fn path(&self, id: usize) -> PathBuf {
        let mut ids = Vec::new();
        let mut next = id;
        while next != ROOT as usize {
            ids.push(next);
            next = self.nodes[next].parent as usize;
        }
        let names = ids.iter().rev().map(|&id| {
            let (start, length) = self.nodes[id].name;
            OsStr::from_bytes(&self.names[start..start + usize::from(length)])
        });
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tally(bytes: u64, inodes: u64) -> Tally {
        Tally { bytes: Bytes(bytes), inodes }
    }

    fn link(inode: u64, directory: Id) -> Link {
        Link { dev: Dev::default(), inode, allocated: 100, directory }
    }

    /// `/` with `a/b`, `c`, and `m` that a mount hides; read by two threads.
    fn records() -> Vec<Records> {
        let (mut first, mut second) = (Records::default(), Records::default());
        first.directory(0, 0, 2, b"", Side::Visible, tally(10, 1));
        first.directory(1, 0, 11, b"a", Side::Visible, tally(20, 2));
        second.directory(2, 1, 12, b"b", Side::Visible, tally(30, 3));
        second.directory(3, 0, 9, b"c", Side::Visible, tally(5, 1));
        first.directory(4, 0, 8, b"m", Side::Hidden(0), tally(1000, 4));
        first.addition(2, tally(7, 1));
        vec![first, second]
    }

    #[test]
    fn totals_are_cumulative_and_hidden_ones_apart() {
        let tree = Tree::new(records(), 5);
        assert_eq!(tree.sides(1), (tally(72, 8), vec![tally(1000, 4)]));
        let largest = tree.largest(10, None);
        let shown: Vec<_> = largest.iter().map(|d| (d.path.to_str().unwrap(), d.tally)).collect();
        assert_eq!(shown, [("a", tally(57, 6)), ("a/b", tally(37, 4)), ("c", tally(5, 1))]);
        assert_eq!(tree.largest(10, Some(1)).len(), 2);
        assert_eq!(tree.largest(1, None), largest[..1]);
        assert_eq!(tree.largest(0, None), []);
    }

    #[test]
    fn an_inode_with_several_names_counts_once_where_it_is_seen() {
        let mut records = records();
        // 50: in a/b and in c, whose inode number is lower. 51: beneath m and in a. 52: only beneath m.
        records[0].links = vec![link(50, 2), link(51, 4), link(52, 4)];
        records[1].links = vec![link(50, 3), link(51, 1), link(52, 4)];
        let tree = Tree::new(records, 5);
        assert_eq!(tree.sides(1), (tally(272, 10), vec![tally(1100, 5)]));
        let largest = tree.largest(10, None);
        let c = largest.iter().find(|directory| directory.path == Path::new("c"));
        assert_eq!(c.unwrap().tally, tally(105, 2), "50 is in c");
    }
}
