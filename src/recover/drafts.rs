//! Copies that another process was writing under a name of their own when it was given up.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::destination::DRAFT;
use crate::survey::PROC;
use crate::sys::scout;

/// Those of the process with that number, by its descriptors: no filesystem is asked for that.
pub(crate) fn of(pid: i32) -> Vec<PathBuf> {
    let descriptors = fs::read_dir(Path::new(PROC).join(pid.to_string()).join("fd"));
    let links =
        descriptors.into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let is_draft = |path: &PathBuf| {
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        path.is_absolute() && name.starts_with(DRAFT.as_bytes()) && !name.ends_with(b" (deleted)")
    };
    links.filter(is_draft).collect()
}

/// Whether it is gone, at the latest after `timeout`.
pub(crate) fn remove(draft: &Path, timeout: Duration) -> bool {
    let name = CString::new(draft.as_os_str().as_bytes());
    name.is_ok_and(|name| scout::removes(&name, timeout) == Ok(true))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn only_drafts_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let [draft, other, gone] = [".whyfull-draft", "whyfull-other", ".whyfull-gone"].map(|name| {
            let path = directory.path().join(name);
            (File::create(&path).unwrap(), path)
        });
        fs::remove_file(&gone.1).unwrap();
        let found = of(std::process::id().try_into().unwrap());
        let found: Vec<_> = found.iter().filter(|path| path.starts_with(directory.path())).collect();
        assert_eq!(found, [&draft.1]);
        assert!(remove(&draft.1, Duration::from_mins(1)) && remove(&gone.1, Duration::from_mins(1)));
        assert!(!draft.1.exists() && other.1.exists());
    }
}
