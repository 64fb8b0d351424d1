//! Whether a file is the disk of a loop device: loop(4).

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::sys::{Dev, loop_device};

/// What the kernel writes behind the name of a backing file that is deleted.
const DELETED: &[u8] = b" (deleted)";

/// The loop device whose disk the inode is. Only devices with a deleted backing file are opened; where
/// one cannot be, the name decides.
pub(super) fn backed_by(identity: (Dev, u64), path: Option<&Path>) -> Option<String> {
    let devices = fs::read_dir("/sys/block").ok()?;
    devices.filter_map(Result::ok).find_map(|device| {
        let shown = fs::read(device.path().join("loop/backing_file")).ok()?;
        let shown = shown.trim_ascii_end().strip_suffix(DELETED)?;
        let node = PathBuf::from("/dev").join(device.file_name());
        let is_it = match backing_file(&node) {
            Ok(backing) => backing == identity,
            Err(_) => path.is_some_and(|path| path.as_os_str().as_bytes() == shown),
        };
        is_it.then(|| node.to_string_lossy().into_owned())
    })
}

fn backing_file(node: &Path) -> Result<(Dev, u64), Errno> {
    let device = open(node, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?;
    loop_device::backing_file(device.as_fd())
}
