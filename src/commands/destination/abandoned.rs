// SPDX-License-Identifier: MIT OR Apache-2.0

//! Unfinished files of a process that is given up, where they have names of their own.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::temporary::PREFIX;
use crate::commands::survey::PROC;
use crate::sys::scout;

/// An unfinished file.
#[derive(Debug)]
pub struct Abandoned {
    /// Its path, for people.
    pub path: PathBuf,
    /// A path that leads through the descriptor that its process has of the directory: no other can be put
    /// in its place.
    through: PathBuf,
}

/// Those of the process with that number, which is there still, by its descriptors: no filesystem is asked
/// for that.
pub fn of(pid: i32) -> Vec<Abandoned> {
    let descriptors = Path::new(PROC).join(pid.to_string()).join("fd");
    let entries = fs::read_dir(descriptors).into_iter().flatten().flatten();
    let links: Vec<_> =
        entries.filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?))).collect();
    let abandoned = |(_, file): &(PathBuf, PathBuf)| {
        let (parent, name) = (file.parent()?, file.file_name()?);
        let bytes = name.as_bytes();
        let is_unfinished = bytes.starts_with(PREFIX.as_bytes()) && !bytes.ends_with(b" (deleted)");
        let (directory, _) = links.iter().find(|(_, path)| is_unfinished && path == parent)?;
        Some(Abandoned { path: file.clone(), through: directory.join(name) })
    };
    links.iter().filter_map(abandoned).collect()
}

impl Abandoned {
    /// Returns whether it is gone, at the latest after `timeout`.
    pub fn remove(&self, timeout: Duration) -> bool {
        let name = CString::new(self.through.as_os_str().as_bytes());
        name.is_ok_and(|name| scout::removes(&name, timeout) == Ok(true))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn only_unfinished_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let _directory = File::open(directory.path()).unwrap();
        let [unfinished, other, gone] = [".whyfull-draft", "whyfull-other", ".whyfull-gone"].map(|name| {
            let path = directory.path().join(name);
            (File::create(&path).unwrap(), path)
        });
        fs::remove_file(&gone.1).unwrap();
        let found = of(std::process::id().try_into().unwrap());
        let found: Vec<_> = found.iter().filter(|found| found.path.starts_with(directory.path())).collect();
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(found.path, unfinished.1);
        assert!(found.remove(Duration::from_mins(1)) && found.remove(Duration::from_mins(1)));
        assert!(!unfinished.1.exists() && other.1.exists());
    }
}
