// SPDX-License-Identifier: MIT OR Apache-2.0

//! `open_tree(2)`, `mount_setattr(2)` and `fsopen(2)`: private mounts, with nothing
//! mounted over them, that nobody else can see.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Flags, commands and attributes, from include/uapi/linux/mount.h.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOUNT_ATTR_RDONLY: u64 = 0x01;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
const MOUNT_ATTR_ATIME_MASK: u64 = 0x70;

/// Mirrors `struct mount_attr` (`MOUNT_ATTR_SIZE_VER0`), Linux 5.12.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Copies the mount that `root` is the root of, without the mounts below it. The copy is in no
/// mount namespace, is read-only and keeps no access times, and goes with its descriptor.
/// Needs `CAP_SYS_ADMIN` (and fails inside a user namespace: the mounts there are locked).
pub fn clone_detached(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned() | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: the path is an empty NUL-terminated string; the rest are numbers.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, root.as_raw_fd(), c"".as_ptr(), flags) };
    let clone = owned(fd)?;
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME,
        attr_clr: MOUNT_ATTR_ATIME_MASK,
        propagation: 0,
        userns_fd: 0,
    };
    // A kernel before 5.12 has no such call. The walk writes nothing and opens with O_NOATIME
    // anyway, so the copy is as good without.
    // SAFETY: `attributes` lives through the call and its size is given.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            clone.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        );
    }
    Ok(clone)
}

/// Makes one more mount of a filesystem that is mounted already, which shows all of it. Like a clone
/// it is in no mount namespace, is read-only, and goes with its descriptor. `source` is the device;
/// `read_only` must say whether the filesystem itself is: where that differs, the kernel refuses
/// (`EBUSY`; fs/super.c, `get_tree_bdev`). Needs `CAP_SYS_ADMIN`.
///
/// The caller has to hold a descriptor on the filesystem: else this might mount it anew, and that
/// writes to the device.
pub fn mount_again(fstype: &CStr, source: &CStr, read_only: bool) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is NUL-terminated.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned(context)?;
    configure(&context, FSCONFIG_SET_STRING, Some(c"source"), Some(source))?;
    if read_only {
        configure(&context, FSCONFIG_SET_FLAG, Some(c"ro"), None)?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME;
    // SAFETY: numbers only.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> Result<(), Errno> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    let (key, value) = (pointer(key), pointer(value));
    // SAFETY: key and value are NUL-terminated or null, as the command asks for.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    Errno::result(result).map(drop)
}

/// The descriptor that a system call has returned.
fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
