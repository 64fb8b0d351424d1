// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where other mounts lie: a trie over the names that lead to mount
//! points. All other directories (nearly all) are outside it and cost nothing.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustc_hash::FxHashMap;

/// A place in the trie.
pub(super) type Place = usize;

/// The root of the walk.
pub(super) const ROOT: Place = 0;

/// The names that lead from the root of the walk to mount points.
#[derive(Debug, Default)]
pub(super) struct Covers {
    nodes: Vec<Node>,
    /// For each mount point, where it is and how it is reached from the root of the walk.
    mounts: Vec<(Place, CString)>,
}

#[derive(Debug, Default)]
struct Node {
    children: FxHashMap<Box<[u8]>, Place>,
    is_mount: bool,
}

impl Covers {
    /// A trie of mount points, given relative to the root of the walk. Their numbers are their
    /// positions.
    pub(super) fn new<'a>(mount_points: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut covers = Self { nodes: vec![Node::default()], mounts: Vec::new() };
        for path in mount_points {
            let mut place = ROOT;
            for component in path.components() {
                if let Component::Normal(name) = component {
                    place = covers.descend(place, name);
                }
            }
            covers.nodes[place].is_mount = true;
            // A path from the kernel holds no NUL.
            let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
            covers.mounts.push((place, path));
        }
        covers
    }

    fn descend(&mut self, place: Place, name: &OsStr) -> Place {
        if let Some(child) = self.child(place, name.as_bytes()) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        self.nodes[place].children.insert(name.as_bytes().into(), child);
        child
    }

    /// Where `name` leads to from `place`, if it is on the way to a mount point.
    pub(super) fn child(&self, place: Place, name: &[u8]) -> Option<Place> {
        self.nodes.get(place)?.children.get(name).copied()
    }

    /// Whether a mount lies at `place`.
    pub(super) fn is_mount(&self, place: Place) -> bool {
        self.nodes.get(place).is_some_and(|node| node.is_mount)
    }

    /// Where the mount point of that number is.
    pub(super) fn place_of(&self, mount: usize) -> Option<Place> {
        self.mounts.get(mount).map(|(place, _)| *place)
    }

    /// How it is reached from the root of the walk.
    pub(super) fn path_of(&self, mount: usize) -> Option<&CStr> {
        self.mounts.get(mount).map(|(_, path)| path.as_c_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_to_a_mount_point_is_in_the_trie() {
        let covers = Covers::new([Path::new("var/lib"), Path::new("var/lib/docker"), Path::new("proc")]);
        let var = covers.child(ROOT, b"var").unwrap();
        assert!(!covers.is_mount(var));
        let lib = covers.child(var, b"lib").unwrap();
        assert!(covers.is_mount(lib));
        let docker = covers.child(lib, b"docker").unwrap();
        assert!(covers.is_mount(docker));
        assert_eq!((covers.place_of(1), covers.path_of(1)), (Some(docker), Some(c"var/lib/docker")));
        assert_eq!(covers.child(ROOT, b"usr"), None);
        assert_eq!(covers.child(lib, b"var"), None);
    }
}
