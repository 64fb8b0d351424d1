// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loop devices on files whose name is gone.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::holders::patience::Patience;
use crate::sys::Dev;
use crate::sys::loop_device::{BackingFile, backing_file};
use crate::sys::scout::{self, Backing};

/// A loop device whose file seems to be deleted, or may be.
#[derive(Debug)]
pub(super) struct Loop {
    /// `/dev/loop3`
    pub(super) node: PathBuf,
    /// The file, without " (deleted)"; none where its path is too long to be told.
    pub(super) file: Option<PathBuf>,
    pub(super) inode: Backing,
}

/// The loop devices below `block` (`/sys/block`) of which the kernel says that their file is deleted: a
/// name of it is gone, there may be others. Only those are opened, and those of which it does not say.
pub(super) fn on_deleted_files(block: &Path, patience: &Patience) -> Vec<Loop> {
    let devices = fs::read_dir(block).into_iter().flatten().flatten();
    let found: Vec<Candidate> = devices.filter_map(|device| Candidate::new(&device.path())).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let nodes: Vec<_> = found.iter().map(|found| (found.c_node.clone(), found.dev)).collect();
    let inodes = match patience.spend(|timeout| scout::loop_backings(&nodes, timeout)) {
        Ok(inodes) => inodes,
        Err(errno) => vec![Err(errno); found.len()],
    };
    let loops = found.into_iter().zip(inodes);
    loops.map(|(Candidate { node, file, .. }, inode)| Loop { node, file, inode }).collect()
}

/// What sysfs tells.
struct Candidate {
    node: PathBuf,
    c_node: CString,
    dev: Dev,
    file: Option<PathBuf>,
}

impl Candidate {
    fn new(device: &Path) -> Option<Self> {
        let name = device.file_name().filter(|name| name.as_bytes().starts_with(b"loop"))?;
        let file = match backing_file(device)? {
            BackingFile::Named(_) => return None,
            BackingFile::Deleted(file) => Some(file),
            BackingFile::TooLong => None,
        };
        let node = Path::new("/dev").join(name);
        Some(Self {
            c_node: CString::new(node.as_os_str().as_bytes()).ok()?,
            dev: fs::read_to_string(device.join("dev")).ok()?.trim().parse().ok()?,
            file,
            node,
        })
    }
}
