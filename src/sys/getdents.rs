// SPDX-License-Identifier: MIT OR Apache-2.0

//! getdents64(2): a directory's entries as the kernel packs them, without a
//! readdir(3) allocation for each.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Offsets in `struct linux_dirent64`: getdents64(2).
const INODE: usize = 0;
const RECORD_LENGTH: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name, any bytes but `/` and NUL.
    pub name: &'a CStr,
    /// The inode's number; beneath a mount point that of what the mount covers.
    pub inode: u64,
    /// `DT_DIR`, `DT_REG`, ... or `DT_UNKNOWN` where the filesystem does not say.
    pub kind: u8,
    /// Whether its record is as long as the name needs (`filldir64`, fs/readdir.c). Where it is longer, there is a
    /// NUL in the name, and more behind that: then the directory is damaged.
    pub is_whole: bool,
}

/// Fills `buffer` with the next entries; returns how many bytes of it are used, 0 at the end.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let result =
        unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(result).map(|used| usize::try_from(used).unwrap_or(0))
}

/// The entries in a filled buffer, without `.` and `..`. Stops at the first record that
/// does not fit into the buffer.
pub fn entries(buffer: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let length = rest.get(RECORD_LENGTH..RECORD_LENGTH + 2)?;
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        let record = rest.get(..length)?;
        let name = CStr::from_bytes_until_nul(record.get(NAME..)?).ok()?;
        let entry = Entry {
            inode: u64::from_ne_bytes(record.get(INODE..INODE + 8)?.try_into().ok()?),
            kind: *record.get(TYPE)?,
            name,
            is_whole: length == (NAME + name.count_bytes() + 1).next_multiple_of(8),
        };
        rest = &rest[length..];
        Some(entry)
    })
    .filter(|entry| !matches!(entry.name.to_bytes(), b"." | b".."))
}

/// Calls `each` for all entries of the directory `name` below `parent`.
pub fn each(parent: BorrowedFd<'_>, name: &CStr, mut each: impl FnMut(Entry<'_>)) -> Result<(), Errno> {
    const BUFFER: usize = 32 * 1024;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let used = read(directory.as_fd(), &mut buffer)?;
        if used == 0 {
            return Ok(());
        }
        entries(buffer.get(..used).unwrap_or_default()).for_each(&mut each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8], kind: u8) -> Vec<u8> {
        let length = (NAME + name.len() + 1).next_multiple_of(8);
        let mut bytes = vec![0; length];
        bytes[RECORD_LENGTH..RECORD_LENGTH + 2]
            .copy_from_slice(&u16::try_from(length).unwrap().to_ne_bytes());
        bytes[TYPE] = kind;
        bytes[NAME..NAME + name.len()].copy_from_slice(name);
        bytes
    }

    #[test]
    fn dots_are_left_out_and_names_of_any_bytes_come_through() {
        let buffer = [record(b".", 4), record(b"..", 4), record(b"\xff\n", 8), record(b".x", 4)].concat();
        let names: Vec<_> = entries(&buffer).map(|e| (e.name.to_bytes().to_vec(), e.kind)).collect();
        assert_eq!(names, [(b"\xff\n".to_vec(), 8), (b".x".to_vec(), 4)]);
        assert!(entries(&buffer).all(|entry| entry.is_whole));
    }

    #[test]
    fn a_name_that_ends_too_early_is_not_whole() {
        let buffer = [record(b"a\0 and more", 8), record(b"\0 nothing else", 8)].concat();
        let names: Vec<_> = entries(&buffer).map(|e| (e.name.to_bytes().to_vec(), e.is_whole)).collect();
        assert_eq!(names, [(b"a".to_vec(), false), (vec![], false)]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512)) {
            proptest::prop_assert!(entries(&bytes).count() <= bytes.len());
        }
    }
}
