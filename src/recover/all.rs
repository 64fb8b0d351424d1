//! All deleted files at once, with an index that says what each was.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::destination::{self, Destination, former_name};
use super::{Options, errno, is_symlink, save};
use crate::assemble;
use crate::explain;
use crate::holders::{Held, Scan};
use crate::monitor::Monitor;
use crate::mounts::Mounts;
use crate::mounts::locate::{self, Target};
use crate::opened::Opened;
use crate::refusal::Refusal;
use crate::report::{Copied, Index, SCHEMA_VERSION, Saved, Tool, json};
use crate::skip::Skip;
use crate::{escape, survey};

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
/// not be copied is in the index with the reason.
pub fn recover_all(request: &AllRequest, monitor: &Monitor) -> Result<Index, Refusal> {
    let AllRequest { filesystem, directory, options, timeout } = request;
    destination::reach(directory, *timeout)?;
    if is_symlink(directory) {
        return Err(Refusal::Symlink(directory.clone()));
    }
    let index = Destination::within(directory, OsStr::new(INDEX), options.force)?;
    let started = SystemTime::now();
    let mounts = locate::read_mounts()?;
    let search = explain::Request {
        paths: filesystem.iter().cloned().collect(),
        all: filesystem.is_none(),
        timeout: *timeout,
        ..explain::Request::default()
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
            saved.push(save_one(held, target, &mounts, request, monitor));
        }
    }
    let skips = skips(&scans);
    let all_saved = skips.is_empty() && saved.iter().all(|saved| saved.error.is_none());
    let contents = Index {
        schema_version: SCHEMA_VERSION,
        tool: Tool::this(),
        started,
        complete: all_saved && !monitor.is_cancelled(),
        interrupted: monitor.is_cancelled(),
        index: index.path(),
        files: saved,
        skipped: assemble::skipped_all(skips),
    };
    write(&index, &contents)?;
    Ok(contents)
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

fn save_one(held: &Held, target: &Target, mounts: &Mounts, request: &AllRequest, monitor: &Monitor) -> Saved {
    let opened = match &target.root {
        // It would only be waited for again, for each of its files.
        Err(Errno::ETIMEDOUT) => Err(no_answer(target, request.timeout)),
        _ => Opened::listed(held, target, mounts, request.timeout),
    };
    let copied = opened.and_then(|opened| copy(&opened, request, monitor));
    let (copied, error) = match copied {
        Ok(copied) => (Some(copied), None),
        Err(refusal) => (None, Some(refusal.to_string())),
    };
    Saved {
        mountpoint: target.mount.mountpoint.clone(),
        file: assemble::described(held, request.timeout),
        copied,
        error,
    }
}

fn no_answer(target: &Target, timeout: Duration) -> Refusal {
    Refusal::NoAnswer { subject: escape::path(&target.mount.mountpoint), timeout }
}

/// Copies it to its former name or, when that is another file's here, to one that tells its number.
fn copy(opened: &Opened, request: &AllRequest, monitor: &Monitor) -> Result<Copied, Refusal> {
    let options = Options { follow: false, ..request.options };
    let mut result = Err(Refusal::Exists(request.directory.clone()));
    for name in names(opened.path.as_deref(), opened.stat.inode) {
        // Two files of one name are both to be kept, whatever --force says of older ones.
        let destination = Destination::within(&request.directory, &name, false);
        result = destination.and_then(|destination| save(opened, &destination, options, monitor));
        if !matches!(result, Err(Refusal::Exists(_) | Refusal::Symlink(_) | Refusal::NotReplaceable(_))) {
            break;
        }
    }
    result
}

/// `app.log`, `app.log.inode-7`, `app.log.inode-7.2`, ...
fn names(path: Option<&Path>, inode: u64) -> impl Iterator<Item = OsString> {
    const TRIES: u32 = 100;
    let first = former_name(path, inode);
    let with_number = move |suffix: String| {
        let mut name = former_name(path, inode);
        name.push(format!(".inode-{inode}{suffix}"));
        name
    };
    let more = (2..TRIES).map(|number| format!(".{number}"));
    std::iter::once(first).chain(std::iter::once(String::new()).chain(more).map(with_number))
}

fn write(index: &Destination, contents: &Index) -> Result<(), Refusal> {
    let failed = |errno: Errno| Refusal::system(&escape::path(&index.path()), errno);
    let bytes = json::render(contents).map_err(|_| failed(Errno::EINVAL))?;
    let draft = index.draft()?;
    let mut file = draft.file();
    file.write_all(&bytes).map_err(|error| failed(errno(&error)))?;
    draft.publish(index)
}
