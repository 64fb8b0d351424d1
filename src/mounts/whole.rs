// SPDX-License-Identifier: MIT OR Apache-2.0

//! The whole of a filesystem of which only a part is mounted here: on a private mount, read-only and
//! without access times, that goes with its descriptor.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::locate::mount_id;
use super::{Mount, device, mountinfo, reach};
use crate::model::traits::TraitsOf;
use crate::sys::Dev;
use crate::sys::deadline::Deadline;
use crate::sys::detached::{detach, within};
use crate::sys::mount::{clone_detached, mount_again};
use crate::sys::stat::statx_fd;
use crate::sys::thread::spawn;

/// The root of the filesystem that `mount` shows a part of; `root` is that part's, opened with
/// `O_PATH`. `None` where the mount shows all of it, or where that is not for this to say: an
/// overlay, or a filesystem with subvolumes. An error where there is no way to the rest.
pub fn whole(mount: &Mount, root: &Arc<OwnedFd>, timeout: Duration) -> Result<Option<OwnedFd>, Errno> {
    if mount.root == Path::new("/") || mount.is_overlay() || mount.has_subvolumes() {
        return Ok(None);
    }
    let whole = match mounted_elsewhere(mount, timeout) {
        Some(whole) => whole,
        None => mounted_again(mount, root, timeout)?,
    };
    let dev = |fd: &OwnedFd| statx_fd(fd.as_fd()).map(|stat| stat.dev);
    if dev(&whole)? == dev(root)? { Ok(Some(whole)) } else { Err(Errno::EXDEV) }
}

/// A clone of a mount that shows all of the filesystem, in the mount namespace of any process or
/// outside of this process's root directory.
fn mounted_elsewhere(mount: &Mount, timeout: Duration) -> Option<OwnedFd> {
    let (sender, receiver) = mpsc::channel();
    let (dev, deadline) = (mount.dev, Deadline::after(timeout));
    // A process that is just executing a program keeps whoever reads its namespace waiting, for as long
    // as the files take that this closes: `proc_ns_readlink` (fs/proc/namespaces.c). That wait can be
    // killed, so the thread does not keep this process from ending.
    detach(move || {
        // Where /proc cannot be read, nothing is found.
        let _ = find(dev, &sender);
    });
    loop {
        let (process, way) = deadline.receive(&receiver).ok()?;
        if let Some(clone) = clone_from(&process, &way, deadline) {
            return Some(clone);
        }
    }
}

/// Sends each mount that shows all of the filesystem on `dev`, with the directory in /proc of a process
/// that sees it, until nobody receives any more. Processes that see the same are asked once.
fn find(dev: Dev, found: &mpsc::Sender<(PathBuf, Mount)>) -> std::io::Result<()> {
    let mut views = HashSet::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = entry.path();
        let link = |name: &str| std::fs::read_link(process.join(name));
        // Not where the process has gone, or may not be looked into.
        let (Ok(namespace), Ok(root)) = (link("ns/mnt"), link("root")) else { continue };
        if !views.insert((namespace, root)) {
            continue;
        }
        let table = std::fs::read(process.join("mountinfo")).unwrap_or_default();
        for way in mountinfo::parse(&table, TraitsOf::default()) {
            let is_whole = way.dev == dev && way.root == Path::new("/");
            if is_whole && found.send((process.clone(), way)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A clone of `way`, which is mounted as `process` sees it.
fn clone_from(process: &Path, way: &Mount, deadline: Deadline) -> Option<OwnedFd> {
    let mountpoint = way.mountpoint.strip_prefix("/").ok()?;
    let root = reach::open(&process.join("root").join(mountpoint), deadline.left())?.ok()?;
    if mount_id(root.as_fd()) != Some(way.id) {
        return None;
    }
    let namespace = process.join("ns/mnt");
    let clone = move || {
        // Opening it may wait as reading that link may.
        let namespace = File::open(namespace).map_err(|_| Errno::ESRCH)?;
        // open_tree(2) clones mounts of its caller's namespace only. This thread, with a working
        // directory of its own, may go there: setns(2).
        unshare(CloneFlags::CLONE_FS)?;
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
        clone_detached(root.as_fd())
    };
    let (sender, receiver) = mpsc::channel();
    // Not `within`: where no thread is to be had, this one must stay where it is.
    spawn("clone", move || drop(sender.send(clone()))).ok()?;
    deadline.receive(&receiver).ok()?.ok()
}

/// One more mount of the same superblock, by its device.
fn mounted_again(mount: &Mount, root: &Arc<OwnedFd>, timeout: Duration) -> Result<OwnedFd, Errno> {
    if !mount.traits.one_superblock_per_device {
        return Err(Errno::EOPNOTSUPP);
    }
    // While it is held open it stays mounted, so that this mounts nothing anew.
    let held = Arc::clone(root);
    if statx_fd(held.as_fd())?.dev != mount.dev {
        return Err(Errno::EXDEV);
    }
    let device = device::node(mount)?;
    // The node that was looked at, whatever its path leads to by then.
    let source = CString::new(format!("/proc/self/fd/{}", device.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
    let fstype = CString::new(mount.fstype.as_str()).map_err(|_| Errno::EINVAL)?;
    let read_only = mount.options.split(|&byte| byte == b',').next() == Some(b"ro");
    let again = move || {
        let again = mount_again(&fstype, &source, read_only);
        drop((held, device));
        again
    };
    within(timeout, again).unwrap_or(Err(Errno::ETIMEDOUT))
}
