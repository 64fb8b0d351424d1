//! `open_tree(2)` and `mount_setattr(2)`: a private copy of one mount, with nothing
//! mounted over it, that nobody else can see.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// `OPEN_TREE_CLONE` and the attributes, from include/uapi/linux/mount.h.
const OPEN_TREE_CLONE: libc::c_uint = 1;
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
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given us this descriptor.
    let clone = unsafe { OwnedFd::from_raw_fd(fd) };
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
