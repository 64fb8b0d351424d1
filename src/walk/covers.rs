//! Where on the way down other mounts lie: a trie over the names that lead to mount
//! points. All other directories (nearly all) are outside it and cost nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// A place in the trie.
pub(super) type Place = usize;

/// The root of the walk.
pub(super) const ROOT: Place = 0;

/// The names that lead from the root of the walk to mount points.
#[derive(Debug, Default)]
pub(super) struct Covers {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<OsStr>, Place)>,
    mount: Option<usize>,
}

impl Covers {
    /// A trie of mount points, given relative to the root of the walk. Their numbers are their
    /// positions.
    pub(super) fn new<'a>(mount_points: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut covers = Self { nodes: vec![Node::default()] };
        for (number, path) in mount_points.into_iter().enumerate() {
            let mut place = ROOT;
            for component in path.components() {
                if let Component::Normal(name) = component {
                    place = covers.descend(place, name);
                }
            }
            covers.nodes[place].mount.get_or_insert(number);
        }
        covers
    }

    fn descend(&mut self, place: Place, name: &OsStr) -> Place {
        if let Some(child) = self.child(place, name.as_bytes()) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        self.nodes[place].children.push((name.into(), child));
        child
    }

    /// Where `name` leads to from `place`, if it is on the way to a mount point.
    pub(super) fn child(&self, place: Place, name: &[u8]) -> Option<Place> {
        let children = &self.nodes.get(place)?.children;
        children.iter().find(|(child, _)| child.as_bytes() == name).map(|&(_, place)| place)
    }

    /// The number of the mount point at `place`.
    pub(super) fn mount_at(&self, place: Place) -> Option<usize> {
        self.nodes.get(place)?.mount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_to_a_mount_point_is_in_the_trie() {
        let covers = Covers::new([Path::new("var/lib"), Path::new("var/lib/docker"), Path::new("proc")]);
        let var = covers.child(ROOT, b"var").unwrap();
        assert_eq!(covers.mount_at(var), None);
        let lib = covers.child(var, b"lib").unwrap();
        assert_eq!(covers.mount_at(lib), Some(0));
        assert_eq!(covers.mount_at(covers.child(lib, b"docker").unwrap()), Some(1));
        assert_eq!(covers.child(ROOT, b"usr"), None);
        assert_eq!(covers.child(lib, b"var"), None);
    }
}
