// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tree that threads have read, each a part of it, and what is added up of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::listing::{Candidate, Largest, Listing};
use super::{Entry, Part, Tally};
use crate::model::bytes::Bytes;
use crate::model::identity::DeviceNumber;

/// A directory's number: a parent's is always smaller.
pub(crate) type Id = u32;

/// The root's.
pub(crate) const ROOT: Id = 0;

/// Whether something counts as visible, is hidden by which mount point, or lies outside of what the
/// mount shows. An inode with names on several sides counts on the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Visible,
    Hidden(usize),
    Outside,
}

/// One name of an inode that has several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) dev: DeviceNumber,
    pub(crate) inode: u64,
    pub(crate) allocated: u64,
    pub(crate) directory: Id,
    /// The name itself, where it is to be listed.
    pub(crate) name: Option<Name>,
}

/// The number of a name in `Records::listed`, which begins at one.
pub(crate) type Name = NonZero<u32>;

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
    /// Names of links that are to be listed.
    listed: Vec<Box<[u8]>>,
    /// Files with one name that may be among the largest of their side.
    files: Largest,
    /// What was read of directories that another thread opened.
    additions: Vec<(Id, Tally)>,
    longest: Option<Length>,
}

/// The size of a list of names, the inode of the directory that has it, and its number: of several as long
/// as each other the one of the lowest inode counts, so that every run says the same.
type Length = (u64, Reverse<u64>, Id);

impl Records {
    /// None yet; of each side that is listed the `top` largest files will be kept.
    pub(crate) fn new(top: usize) -> Self {
        Self { files: Largest::new(top), ..Self::default() }
    }

    /// A directory with what it holds directly, its own blocks included. Returns its place in these records.
    pub(crate) fn directory(
        &mut self,
        id: Id,
        parent: Id,
        inode: u64,
        name: &[u8],
        side: Side,
        own: Tally,
    ) -> usize {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.nodes.push(Node { id, parent, inode, name: (self.names.len(), length), side, own });
        self.names.extend_from_slice(&name[..usize::from(length)]);
        self.nodes.len() - 1
    }

    /// What the directory at that place holds directly, now that it has been read.
    pub(crate) fn holds(&mut self, place: usize, own: Tally) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.own = own;
        }
    }

    /// How long the list of names of a visible directory is.
    pub(crate) fn length(&mut self, id: Id, inode: u64, size: u64) {
        self.longest = self.longest.max(Some((size, Reverse(inode), id)));
    }

    /// More of what a directory holds directly.
    pub(crate) fn addition(&mut self, id: Id, tally: Tally) {
        self.additions.push((id, tally));
    }

    /// A name of an inode with several.
    pub(crate) fn link(&mut self, link: Link) {
        self.links.push(link);
    }

    /// Keeps the name of a link that is to be listed.
    pub(crate) fn listed_name(&mut self, name: &[u8]) -> Option<Name> {
        self.listed.push(name.into());
        u32::try_from(self.listed.len()).ok().and_then(NonZero::new)
    }

    /// A file with one name that is to be listed if it is large enough.
    pub(crate) fn file(&mut self, side: Side, directory: Id, inode: u64, allocated: u64, name: &[u8]) {
        if self.files.wants(side, Bytes(allocated)) {
            self.files.offer(side, Candidate::file(allocated, inode, directory, name));
        }
    }
}

/// Each side's part.
pub(crate) struct Sides {
    pub(crate) visible: Tally,
    /// One for each mount point.
    pub(crate) hidden: Vec<Part>,
    pub(crate) outside: Part,
}

/// All that was read.
pub(crate) struct Tree {
    /// By id. A directory that was counted but never recorded has a node of its own without name.
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// For each directory, all in it and below it that is on its side.
    sums: Vec<Tally>,
    /// How far each is below the root of its side.
    depths: Vec<u32>,
    files: Largest,
    longest: Option<Length>,
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
        let mut tree = Self {
            nodes: vec![absent; directories as usize],
            names: Vec::new(),
            sums: Vec::new(),
            depths: Vec::new(),
            files: Largest::default(),
            longest: None,
        };
        let (mut links, mut listed, mut additions) = (Vec::new(), Vec::new(), Vec::new());
        for mut record in records {
            for link in &mut record.links {
                let moved = |name: Name| name.checked_add(u32::try_from(listed.len()).ok()?);
                link.name = link.name.and_then(moved);
            }
            listed.append(&mut record.listed);
            tree.files.append(record.files);
            tree.longest = tree.longest.max(record.longest);
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
        tree.count_links(links, &listed);
        tree.add_up();
        tree
    }

    /// Counts each inode with several names once: where it can be seen, if anywhere, and there in
    /// the directory with the lowest inode number, so that every run says the same.
    fn count_links(&mut self, mut links: Vec<Link>, listed: &[Box<[u8]>]) {
        let name = |link: &Link| listed.get(link.name?.get() as usize - 1);
        let place = |link: &Link| {
            let directory = &self.nodes[link.directory as usize];
            (directory.side, directory.inode)
        };
        links.sort_unstable_by(|a, b| {
            let key = |link: &Link| (link.dev, link.inode, place(link));
            key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b)))
        });
        links.dedup_by_key(|link| (link.dev, link.inode));
        for link in links {
            let directory = &mut self.nodes[link.directory as usize];
            directory.own.count(link.allocated);
            if let Some(name) = name(&link) {
                let file = Candidate::file(link.allocated, link.inode, link.directory, name);
                self.files.offer(directory.side, file);
            }
        }
    }

    fn add_up(&mut self) {
        let root_of_side = |node: &Node| self.nodes[node.parent as usize].side != node.side;
        self.sums = self.nodes.iter().map(|node| node.own).collect();
        self.depths = vec![0; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().skip(1) {
            if !root_of_side(node) {
                self.depths[id] = self.depths[node.parent as usize].saturating_add(1);
            }
        }
        for (id, node) in self.nodes.iter().enumerate().skip(1).rev() {
            if !root_of_side(node) {
                let sum = self.sums[id];
                self.sums[node.parent as usize].add(sum);
            }
        }
    }

    /// What is visible, what each of `mounts` mount points hides, and what lies outside of the mount;
    /// the latter two with the largest names of as many levels as `listing` says.
    pub(crate) fn sides(&self, mounts: usize, listing: &Listing) -> Sides {
        let (mut visible, mut outside) = (Tally::default(), Part::default());
        let mut hidden = vec![Part::default(); mounts];
        let mut largest = self.files.clone();
        for (id, node) in self.nodes.iter().enumerate() {
            match node.side {
                Side::Visible => visible.add(node.own),
                Side::Hidden(mount) => {
                    if let Some(part) = hidden.get_mut(mount) {
                        part.tally.add(node.own);
                    }
                }
                Side::Outside => outside.tally.add(node.own),
            }
            if (1..=listing.levels(node.side)).contains(&self.depths[id]) {
                largest.offer(node.side, Candidate::directory(self.sums[id], node.inode, node.id));
            }
        }
        for (mount, part) in hidden.iter_mut().enumerate() {
            part.largest = self.entries(largest.take(Side::Hidden(mount)));
        }
        outside.largest = self.entries(largest.take(Side::Outside));
        Sides { visible, hidden, outside }
    }

    fn entries(&self, largest: Vec<Candidate>) -> Vec<Entry> {
        let entry = |candidate: Candidate| {
            let mut path = self.path(candidate.directory as usize);
            if let Some(name) = &candidate.name {
                path.push(OsStr::from_bytes(name));
            }
            Entry { path, tally: candidate.tally() }
        };
        largest.into_iter().map(entry).collect()
    }

    /// On which side a directory is.
    pub(crate) fn side(&self, id: usize) -> Side {
        self.nodes[id].side
    }

    /// The `top` largest visible directories at most `depth` below the root, largest first. The
    /// root is left out: it is the whole.
    pub(crate) fn largest(&self, top: usize, depth: Option<usize>) -> Vec<Entry> {
        let Self { sums, depths, .. } = self;
        let shown = |id: &usize| {
            let node = &self.nodes[*id];
            node.name.1 > 0
                && node.side == Side::Visible
                && depth.is_none_or(|depth| depths[*id] as usize <= depth)
        };
        let mut heap = BinaryHeap::with_capacity(top.min(self.nodes.len()).saturating_add(1));
        for id in (1..self.nodes.len()).filter(shown) {
            heap.push(Reverse((sums[id].bytes, Reverse(self.nodes[id].inode), id)));
            if heap.len() > top {
                heap.pop();
            }
        }
        let largest = heap.into_sorted_vec().into_iter();
        largest.map(|Reverse((_, _, id))| Entry { path: self.path(id), tally: sums[id] }).collect()
    }

    /// The visible directory whose list of names is the longest, and that list's size.
    pub(crate) fn longest(&self) -> Option<(PathBuf, Bytes)> {
        self.longest.map(|(size, _, id)| (self.path(id as usize), Bytes(size)))
    }

    /// What is in and below the directories with these inode numbers, except beneath mount points.
    /// `None` if there are none.
    pub(crate) fn below(&self, inodes: &[u64]) -> Option<Tally> {
        let mut inside = vec![false; self.nodes.len()];
        let mut sum = None;
        for (id, node) in self.nodes.iter().enumerate() {
            // A parent's number is smaller: it has been decided.
            let parent = id != ROOT as usize && inside[node.parent as usize];
            inside[id] = node.side == Side::Visible && (parent || inodes.contains(&node.inode));
            if inside[id] {
                sum.get_or_insert_with(Tally::default).add(node.own);
            }
        }
        sum
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
        Link { dev: DeviceNumber::default(), inode, allocated: 100, directory, name: None }
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

    fn totals(tree: &Tree) -> (Tally, Vec<Tally>, Tally) {
        let Sides { visible, hidden, outside } = tree.sides(1, &Listing { hidden: vec![], outside: 0 });
        (visible, hidden.into_iter().map(|part| part.tally).collect(), outside.tally)
    }

    #[test]
    fn totals_are_cumulative_and_hidden_ones_apart() {
        let tree = Tree::new(records(), 5);
        assert_eq!(totals(&tree), (tally(72, 8), vec![tally(1000, 4)], tally(0, 0)));
        let largest = tree.largest(10, None);
        let shown: Vec<_> = largest.iter().map(|d| (d.path.to_str().unwrap(), d.tally)).collect();
        assert_eq!(shown, [("a", tally(57, 6)), ("a/b", tally(37, 4)), ("c", tally(5, 1))]);
        assert_eq!(tree.largest(10, Some(1)).len(), 2);
        assert_eq!(tree.largest(1, None), largest[..1]);
        assert_eq!(tree.largest(0, None), []);
    }

    #[test]
    fn what_is_below_some_directories_is_added_up() {
        let tree = Tree::new(records(), 5);
        assert_eq!(tree.below(&[12, 9]), Some(tally(42, 5)));
        assert_eq!(tree.below(&[11, 12]), Some(tally(57, 6)), "one within the other");
        assert_eq!(tree.below(&[2]), Some(tally(72, 8)));
        assert_eq!(tree.below(&[8]), None, "hidden");
        assert_eq!(tree.below(&[99]), None);
    }

    #[test]
    fn of_the_longest_lists_of_names_that_of_the_lowest_inode_is_told() {
        assert_eq!(Tree::new(records(), 5).longest(), None);
        let mut records = records();
        for (by, id, inode, size) in [(0, 1, 11, 4096), (1, 3, 9, 8192), (0, 2, 12, 8192)] {
            records[by].length(id, inode, size);
        }
        assert_eq!(Tree::new(records, 5).longest(), Some(("c".into(), Bytes(8192))));
    }

    #[test]
    fn an_inode_with_several_names_counts_once_where_it_is_seen() {
        let mut records = records();
        // 50: in a/b and in c, whose inode number is lower. 51: beneath m and in a. 52: only beneath m.
        records[0].links = vec![link(50, 2), link(51, 4), link(52, 4)];
        records[1].links = vec![link(50, 3), link(51, 1), link(52, 4)];
        let tree = Tree::new(records, 5);
        assert_eq!(totals(&tree), (tally(272, 10), vec![tally(1100, 5)], tally(0, 0)));
        let largest = tree.largest(10, None);
        let c = largest.iter().find(|directory| directory.path == Path::new("c"));
        assert_eq!(c.unwrap().tally, tally(105, 2), "50 is in c");
    }

    /// `m` with `m/d/e` and a file `m/f`, of which `m` is covered, and `out` outside.
    fn records_with_names() -> Vec<Records> {
        let mut first = Records::new(3);
        first.directory(0, 0, 2, b"", Side::Visible, tally(10, 1));
        first.directory(1, 0, 8, b"m", Side::Hidden(0), tally(10, 1));
        first.directory(2, 1, 9, b"d", Side::Hidden(0), tally(10, 1));
        first.file(Side::Hidden(0), 1, 20, 70, b"f");
        first.file(Side::Hidden(0), 1, 21, 0, b"empty");
        let mut second = Records::new(3);
        second.directory(3, 2, 10, b"e", Side::Hidden(0), tally(40, 2));
        second.directory(4, 0, 30, b"", Side::Outside, tally(5, 1));
        second.directory(5, 4, 31, b"out", Side::Outside, tally(6, 1));
        // One inode with two names beneath, one with a name outside, too, and one seen elsewhere.
        for (inode, directory, name) in
            [(40, 1, b"z"), (40, 1, b"a"), (41, 5, b"o"), (41, 2, b"h"), (42, 1, b"v")]
        {
            let name = second.listed_name(name);
            second.link(Link { name, ..link(inode, directory) });
        }
        second.link(link(42, 0));
        vec![first, second]
    }

    #[test]
    fn the_largest_names_of_each_part_are_listed() {
        let tree = Tree::new(records_with_names(), 6);
        let Sides { hidden, outside, .. } = tree.sides(1, &Listing { hidden: vec![2], outside: 1 });
        let names = |part: &Part| -> Vec<(String, Tally)> {
            let entries = part.largest.iter();
            entries.map(|entry| (entry.path.to_str().unwrap().to_owned(), entry.tally)).collect()
        };
        let expected = [("m/d", tally(150, 4)), ("m/a", tally(100, 1)), ("m/d/h", tally(100, 1))];
        assert_eq!(names(&hidden[0]), expected.map(|(name, tally)| (name.to_owned(), tally)));
        assert_eq!(names(&outside), [("out".to_owned(), tally(6, 1))]);
        assert_eq!((hidden[0].tally, outside.tally), (tally(260, 6), tally(11, 2)));
    }
}
