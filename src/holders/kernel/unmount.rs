// SPDX-License-Identifier: MIT OR Apache-2.0

//! A mount that was found to hold a file, reached once more to be unmounted.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};

use crate::model::deleted::MountedAt;
use crate::sys::mount_namespace;
use crate::sys::scout::{self, Spot};
use crate::sys::stat::statx_fd;

/// The mount itself, with the namespace that it is in: neither becomes another one.
#[derive(Debug)]
pub struct Reached {
    namespace: Option<OwnedFd>,
    spot: Spot,
}

/// Finds a mount once more. `ESTALE` where something else is there by now.
pub fn reach(at: &MountedAt, proc: &Path, timeout: Duration) -> Result<Reached, Errno> {
    let namespace = at.namespace.map(|inode| enter(inode, at.task, proc)).transpose()?;
    let name = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let point = name(at.point.as_os_str().as_bytes())?;
    let (Some(directory), Some(last)) = (at.point.parent(), at.point.file_name()) else {
        // The root of a namespace stays as long as that does.
        return Err(Errno::EBUSY);
    };
    let entry = namespace.as_ref().map(AsFd::as_fd);
    let found = scout::open_each(entry, &[point], timeout)?.pop().unwrap_or(Err(Errno::ENOENT))?;
    let stat = statx_fd(found.as_fd())?;
    if stat.mount != Some(at.mount) {
        // Before Linux 5.8 no mount can be told from another.
        return Err(if stat.mount.is_none() { Errno::ENOSYS } else { Errno::ESTALE });
    }
    let directory = name(directory.as_os_str().as_bytes())?;
    let name = name(last.as_bytes())?;
    Ok(Reached { namespace, spot: Spot { directory, name, mount: at.mount, root: stat.identity() } })
}

/// Opens a namespace: among all there are (Linux 6.12), or through `task`, a process in it.
fn enter(inode: u64, task: Option<u32>, proc: &Path) -> Result<OwnedFd, Errno> {
    let mut found = None;
    let listed = mount_namespace::all(|namespace| {
        if namespace.inode == inode {
            found = Some(namespace.fd);
        }
    });
    if let (Ok(()), Some(found)) = (listed, found) {
        return Ok(found);
    }
    let link = proc.join(task.ok_or(Errno::ESRCH)?.to_string()).join("ns/mnt");
    let namespace = open(&link, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstat(&namespace)?.st_ino == inode { Ok(namespace) } else { Err(Errno::ESTALE) }
}

impl Reached {
    /// Unmounts it, by this program itself.
    pub fn unmount(&self, timeout: Duration) -> Result<(), Errno> {
        scout::unmount(self.namespace.as_ref().map(AsFd::as_fd), &self.spot, timeout)
    }
}
