// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text of /proc/PID/maps: `proc_pid_maps(5)`. Pure.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::sys::Dev;

/// What the kernel appends to the name of a file whose directory entry is gone.
const DELETED: &[u8] = b" (deleted)";

/// A mapping of a file that seems to be deleted. A live file may be named that way, so the inode
/// has to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Its name below `map_files`: `start-end` in hex, without the zeros that maps puts in front.
    pub(super) range: CString,
    pub(super) dev: Dev,
    pub(super) inode: u64,
    /// Without " (deleted)".
    pub(super) path: PathBuf,
}

/// The mappings in `text` whose name ends in " (deleted)", each inode once.
pub(super) fn deleted(text: &[u8]) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in text.split(|&byte| byte == b'\n').filter(|line| line.ends_with(DELETED)) {
        let Some(mapping) = parse(line) else { continue };
        if !found.iter().any(|other| (other.dev, other.inode) == (mapping.dev, mapping.inode)) {
            found.push(mapping);
        }
    }
    found
}

/// `start-end perms offset major:minor inode   path`
fn parse(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = text()?.split_once('-')?;
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (_permissions, _offset) = (text()?, text()?);
    let (major, minor) = text()?.split_once(':')?;
    let inode = text()?.parse().ok()?;
    let path = fields.next()?.trim_ascii_start();
    Some(Mapping {
        range: CString::new(format!("{:x}-{:x}", hex(start)?, hex(end)?)).ok()?,
        dev: Dev { major: u32::try_from(hex(major)?).ok()?, minor: u32::try_from(hex(minor)?).ok()? },
        inode,
        path: OsString::from_vec(unescape(path.strip_suffix(DELETED)?)).into(),
    })
}

/// Newlines are written as `\012`, and nothing else is escaped (`fs/proc/task_mmu.c`, `seq_path`): a
/// name that really holds those four characters cannot be told apart.
fn unescape(name: &[u8]) -> Vec<u8> {
    const NEWLINE: &[u8] = b"\\012";
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(&byte) = rest.first() {
        let (byte, length) = if rest.starts_with(NEWLINE) { (b'\n', NEWLINE.len()) } else { (byte, 1) };
        plain.push(byte);
        rest = &rest[length..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_end_in_deleted_and_each_inode_once() {
        let text = b"00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon\n\
            7f00-8f00 rw-s 00000000 103:1f 42                         /var/lib/a b (deleted)\n\
            8f00-9f00 rw-s 00001000 103:1f 42                         /var/lib/a b (deleted)\n\
            9f00-af00 rw-p 00000000 00:00 0                           [heap]\n";
        let [mapping] = deleted(text).try_into().unwrap();
        assert_eq!(mapping.range.as_c_str(), c"7f00-8f00");
        assert_eq!((mapping.dev, mapping.inode), (Dev { major: 0x103, minor: 0x1f }, 42));
        assert_eq!(mapping.path, PathBuf::from("/var/lib/a b"));
    }

    #[test]
    fn newlines_are_unescaped() {
        let text = b"00400000-00401000 r-xp 00000000 08:02 7 /a\\012b\\011 (deleted)";
        assert_eq!(deleted(text)[0].path, PathBuf::from("/a\nb\\011"));
    }

    #[test]
    fn low_addresses_lose_their_zeros() {
        let text = b"00400000-00401000 r-xp 00000000 08:02 7 /x (deleted)";
        assert_eq!(deleted(text)[0].range.as_c_str(), c"400000-401000");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..128)) {
            bytes.extend_from_slice(DELETED);
            deleted(&bytes);
        }
    }
}
