// SPDX-License-Identifier: MIT OR Apache-2.0

//! Opening paths that may lead to, or through, filesystems that do not answer.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;

use crate::sys::batch;
use crate::sys::detached::within;
use crate::sys::scout::{self, Opened};

/// Opens with `O_PATH`; `None` when there is no answer.
pub fn open(path: &Path, timeout: Duration) -> Option<Opened> {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return Some(Err(Errno::EINVAL)) };
    open_named(vec![name], timeout).pop().flatten()
}

/// How many paths a child opens at least, where there are many.
const AT_LEAST: usize = 64;
/// How many children there are at most at a time. One that waits for a dead filesystem lets the others go on.
const CHILDREN: usize = 16;
/// Descriptors that are left for everything else, where there are enough.
const RESERVED: u64 = 256;

/// The same for many paths. Those for which no descriptors are left: `EMFILE`.
pub(super) fn open_all(paths: &[PathBuf], timeout: Duration) -> Vec<Option<Opened>> {
    let size = paths.len().div_ceil(CHILDREN).max(AT_LEAST);
    let name = |path: &PathBuf| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    let parts: Vec<(usize, Vec<CString>)> =
        paths.chunks(size).map(|part| (part.len(), part.iter().map(name).collect())).collect();
    let sizes: Vec<usize> = parts.iter().map(|(size, _)| *size).collect();
    // Each of these calls returns.
    let opened = batch::begin(parts, move |(_, part)| open_named(part, timeout)).wait(Duration::MAX);
    let parts = opened.into_iter().zip(sizes);
    let opened = parts.flat_map(|(part, size)| part.unwrap_or_else(|| (0..size).map(|_| None).collect()));
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(RESERVED, |(soft, _)| soft);
    let most = limit.saturating_sub(RESERVED.min(limit / 2));
    let is_spare = |fd: &OwnedFd| u64::try_from(fd.as_raw_fd()).is_ok_and(|number| number < most);
    let keep = |fd: OwnedFd| if is_spare(&fd) { Ok(fd) } else { Err(Errno::EMFILE) };
    opened.map(|opened| Some(opened?.and_then(keep))).collect()
}

/// Has a child open them, and another one those that come after one that does not answer.
fn open_named(mut names: Vec<CString>, timeout: Duration) -> Vec<Option<Opened>> {
    let mut results = Vec::with_capacity(names.len());
    while !names.is_empty() {
        let Ok(opened) = scout::open_answering(&names, timeout) else {
            // Where no child can be had, going without one is better than not at all.
            results.extend(names.into_iter().map(|name| within(timeout, move || open_here(&name))));
            break;
        };
        let answered = opened.iter().take_while(|opened| opened.as_ref().err() != Some(&Errno::ETIMEDOUT));
        let answered = answered.count();
        results.extend(opened.into_iter().take(answered).map(Some));
        if answered < names.len() {
            results.push(None);
        }
        names.drain(..names.len().min(answered + 1));
    }
    results
}

fn open_here(name: &CString) -> Opened {
    nix::fcntl::open(name.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_paths_come_back_in_their_order() {
        let paths: Vec<PathBuf> =
            (0..2000).map(|number| if number % 3 == 0 { "/nowhere".into() } else { "/".into() }).collect();
        let opened = open_all(&paths, Duration::from_mins(1));
        assert_eq!(opened.len(), paths.len());
        for (path, opened) in paths.iter().zip(opened) {
            match opened.expect("an answer") {
                Err(errno) if path == Path::new("/") => assert_eq!(errno, Errno::EMFILE),
                Err(errno) => assert_eq!(errno, Errno::ENOENT),
                Ok(_) => assert_eq!(path, Path::new("/")),
            }
        }
    }
}
