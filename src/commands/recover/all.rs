// SPDX-License-Identifier: MIT OR Apache-2.0

//! All deleted files at once, with an index that says what each was.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::destination::{self, Destination, former_name};
use super::{Options, save};
use crate::commands::assemble;
use crate::commands::destination::Directory;
use crate::commands::refusal::Refusal;
use crate::commands::request::Request;
use crate::commands::survey;
use crate::commands::verified_file::Opened;
use crate::filesystems;
use crate::holders::{Held, Scan};
use crate::model::errno::errno;
use crate::model::escape;
use crate::model::monitor::Monitor;
use crate::model::skips::Skip;
use crate::mounts::Mounts;
use crate::mounts::locate::{self, Target};
use crate::report::{Copied, Index, SCHEMA_VERSION, Saved, Tool, json};

/// What the index is called in the directory.
const INDEX: &str = "whyfull-index.json";

/// Which files to recover, and to where.
#[derive(Clone, Debug)]
pub struct AllRequest {
    /// Those of the filesystem that holds this path; of every local one if there is none.
    pub filesystem: Option<PathBuf>,
    /// An existing directory.
    pub directory: PathBuf,
    /// How each is copied.
    pub options: Options,
    /// How long to wait for a filesystem that may be dead.
    pub timeout: Duration,
}

/// Copies every deleted file that is found into the directory, and then writes the index. What could
/// not be copied is in the index with the reason. An index that could not be written is returned along with
/// why not: the copies are there.
pub fn recover_all(request: &AllRequest, monitor: &Monitor) -> Result<(Index, Option<Refusal>), Refusal> {
    let AllRequest { filesystem, directory, options, timeout } = request;
    destination::reach(directory, *timeout)?;
    let directory = destination::directory(directory)?;
    let index = Destination::new(&directory, OsStr::new(INDEX), options.force)?;
    let started = SystemTime::now();
    let mounts = locate::read_mounts(filesystems::TRAITS_OF)?;
    let search = Request {
        paths: filesystem.iter().cloned().collect(),
        all: filesystem.is_none(),
        timeout: *timeout,
        ..Request::default()
    };
    let targets = survey::targets(&search, &mounts)?;
    let all: Vec<_> = targets.iter().map(Some).collect();
    let scans = survey::holders(&all, &mounts, &search)?;
    let mut saved = Vec::new();
    for (target, scan) in targets.iter().zip(&scans) {
        for held in scan.held.iter().filter(|held| held.stat.is_file()) {
            if monitor.is_cancelled() {
                break;
            }
            saved.push(save_one(held, target, &mounts, request, &directory, monitor));
        }
    }
    let skips = skips(&scans);
    let all_saved = skips.is_empty() && saved.iter().all(|saved| saved.error.is_none());
    let mut contents = Index {
        schema_version: SCHEMA_VERSION,
        tool: Tool::this(),
        started,
        complete: all_saved && !monitor.is_cancelled(),
        interrupted: monitor.is_cancelled(),
        index: Some(index.path()),
        files: saved,
        skipped: assemble::skipped_all(&skips),
    };
    let unwritten = write(&index, &contents).err();
    if unwritten.is_some() {
        (contents.index, contents.complete) = (None, false);
    }
    Ok((contents, unwritten))
}

/// What could not be looked at and may hold more. Where the filesystem itself has listed all files,
/// that is nobody; what is damaged is in no list.
fn skips(scans: &[Scan]) -> Vec<Skip> {
    let mut skips: Vec<Skip> = Vec::new();
    let matters = |scan: &Scan, skip: &Skip| !scan.listed || skip.is_damage();
    for skip in scans.iter().flat_map(|scan| scan.skips.iter().filter(move |skip| matters(scan, skip))) {
        // Processes are the same for all filesystems.
        if !skips.contains(skip) {
            skips.push(skip.clone());
        }
    }
    skips
}

fn save_one(
    held: &Held,
    target: &Target,
    mounts: &Mounts,
    request: &AllRequest,
    directory: &Directory,
    monitor: &Monitor,
) -> Saved {
    let opened = match &target.root {
        // It would only be waited for again, for each of its files.
        Err(Errno::ETIMEDOUT) => Err(no_answer(target, request.timeout)),
        _ => Opened::listed(held, target, mounts, request.timeout),
    };
    let copied = opened.and_then(|opened| copy(&opened, directory, request.options, monitor));
    let (copied, error) = match copied {
        Ok(copied) => (Some(copied), None),
        Err(refusal) => (None, Some(refusal.to_string())),
    };
    Saved {
        mountpoint: target.mount.mountpoint.clone(),
        file: (&assemble::described(held, request.timeout)).into(),
        copied,
        error,
    }
}

fn no_answer(target: &Target, timeout: Duration) -> Refusal {
    Refusal::NoAnswer { subject: escape::path(&target.mount.mountpoint), timeout }
}

/// Copies it to its former name or, when that is another file's here or cannot be one, to one that tells its
/// number.
fn copy(
    opened: &Opened,
    directory: &Directory,
    options: Options,
    monitor: &Monitor,
) -> Result<Copied, Refusal> {
    let options = Options { follow: false, ..options };
    let mut result = Err(Refusal::Exists(directory.path().to_owned()));
    for name in names(opened.name.path(), opened.stat.inode) {
        // Two files of one name are both to be kept, whatever --force says of older ones.
        let destination = Destination::new(directory, &name, false);
        let destination = destination.map(|destination| destination.without_taking(INDEX));
        result = destination.and_then(|destination| save(opened, &destination, options, monitor));
        if !result.as_ref().is_err_and(is_for_the_name) {
            break;
        }
    }
    result
}

/// Whether another name may do. Not every filesystem takes every name: vfat has none with a colon or of bytes
/// that are no text.
fn is_for_the_name(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Exists(_) | Refusal::Symlink(_) | Refusal::NotReplaceable(_) => true,
        Refusal::System { source, .. } => {
            matches!(errno(source), Errno::ENAMETOOLONG | Errno::EINVAL | Errno::EILSEQ)
        }
        _ => false,
    }
}

/// `app.log`, `app.log.inode-7`, `inode-7`, `inode-7.2`, ... The index's name is none of them.
fn names(path: Option<&Path>, inode: u64) -> impl Iterator<Item = OsString> {
    const TRIES: u32 = 100;
    let former = former_name(path, inode);
    let mut numbered = former.clone();
    numbered.push(format!(".inode-{inode}"));
    let plain = OsString::from(format!("inode-{inode}"));
    let more = (2..TRIES).map(move |number| format!("inode-{inode}.{number}").into());
    let is_free = |name: &OsString| !name.eq_ignore_ascii_case(INDEX);
    [former, numbered, plain].into_iter().filter(is_free).chain(more)
}

fn write(index: &Destination<'_>, contents: &Index) -> Result<(), Refusal> {
    let bytes = json::render(contents).map_err(|_| index.failed(Errno::EINVAL))?;
    let temporary = index.begin()?;
    let written = temporary.file().write_all(&bytes);
    written.map_err(|error| index.failed(errno(&error)))?;
    index.publish(temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_keeps_its_name() {
        for name in ["/tmp/whyfull-index.json", "/WHYFULL-Index.Json"] {
            assert_eq!(names(Some(Path::new(name)), 7).nth(1).unwrap(), "inode-7");
            assert!(names(Some(Path::new(name)), 7).all(|name| !name.eq_ignore_ascii_case(INDEX)));
        }
        let all: Vec<_> = names(Some(Path::new("/app.log")), 7).take(4).collect();
        assert_eq!(all, ["app.log", "app.log.inode-7", "inode-7", "inode-7.2"]);
    }
}
