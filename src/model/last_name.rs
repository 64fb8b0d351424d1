// SPDX-License-Identifier: MIT OR Apache-2.0

//! The last name of an inode that has none any more, as far as the kernel tells it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LastName {
    /// This is it.
    Told(PathBuf),
    /// It never had one: `O_TMPFILE`, open(2).
    #[default]
    Never,
    /// The links of /proc tell no path of more than 4095 bytes: `do_proc_readlink` (fs/proc/base.c), which
    /// gives a page to `d_path`.
    TooLong,
    /// Nobody tells it.
    NotTold,
}

impl LastName {
    /// As a link of /proc shows it for the inode with that number.
    pub fn of_link(link: Result<PathBuf, Errno>, inode: u64) -> Self {
        match link {
            Ok(link) => Self::of_path(without_suffix(link), inode),
            Err(Errno::ENAMETOOLONG) => Self::TooLong,
            Err(_) => Self::NotTold,
        }
    }

    /// The path that the inode with that number had.
    pub fn of_path(path: PathBuf, inode: u64) -> Self {
        if is_stand_in(&path, inode) {
            Self::Never
        } else if path.file_name().is_none() {
            Self::NotTold
        } else {
            Self::Told(path)
        }
    }

    /// The path, if it is told.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Told(path) => Some(path),
            Self::Never | Self::TooLong | Self::NotTold => None,
        }
    }

    /// Takes over what another look has told, if that tells more.
    pub fn or(&mut self, other: Self) {
        if other.rank() < self.rank() {
            *self = other;
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Told(_) => 0,
            Self::Never => 1,
            Self::TooLong => 2,
            Self::NotTold => 3,
        }
    }
}

/// Without the " (deleted)" that `d_path` (`fs/d_path.c`) puts behind it.
fn without_suffix(link: PathBuf) -> PathBuf {
    let mut bytes = link.into_os_string().into_vec();
    if bytes.ends_with(b" (deleted)") {
        bytes.truncate(bytes.len() - b" (deleted)".len());
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Whether the kernel shows `path` for an inode that never had a name: files made with `O_TMPFILE` show
/// as `#` and their inode number (`fs/dcache.c`, `d_mark_tmpfile`).
fn is_stand_in(path: &Path, inode: u64) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes() == format!("#{inode}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_tells() {
        let of = |link: &str| LastName::of_link(Ok(link.into()), 7);
        assert_eq!(of("/a/b (deleted)"), LastName::Told("/a/b".into()));
        assert_eq!(of("/a/b (deleted) (deleted)"), LastName::Told("/a/b (deleted)".into()));
        assert_eq!(of("/a/#7 (deleted)"), LastName::Never);
        assert_eq!(of("/a/#8 (deleted)"), LastName::Told("/a/#8".into()));
        assert_eq!(of("/"), LastName::NotTold);
        assert_eq!(LastName::of_link(Err(Errno::ENAMETOOLONG), 7), LastName::TooLong);
        assert_eq!(LastName::of_link(Err(Errno::EACCES), 7), LastName::NotTold);
    }

    #[test]
    fn the_look_that_tells_most_counts() {
        let all = [LastName::Told("/a".into()), LastName::Never, LastName::TooLong, LastName::NotTold];
        for (index, more) in all.iter().enumerate() {
            for less in &all[index..] {
                for (mut first, second) in [(more.clone(), less.clone()), (less.clone(), more.clone())] {
                    first.or(second);
                    assert_eq!(first, *more);
                }
            }
        }
    }
}
