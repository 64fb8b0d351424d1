// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text of /proc/PID/fdinfo/N: `proc_pid_fdinfo(5)`. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::model::deleted::DescriptorInfo;
use crate::model::open_flags::OpenFlags;
use crate::mounts::mountinfo::unescape;

/// Open flags and offset.
pub(super) fn descriptor(text: &[u8]) -> Option<DescriptorInfo> {
    Some(DescriptorInfo {
        flags: OpenFlags(i32::from_str_radix(field(text, "flags:")?, 8).ok()?),
        position: field(text, "pos:")?.parse().ok()?,
    })
}

/// The mount that it was opened through.
pub(super) fn mount(text: &[u8]) -> Option<u64> {
    field(text, "mnt_id:")?.parse().ok()
}

/// Of a unix socket: how many descriptors lie in its queue, or in those of connections that it has not
/// accepted yet (`net/unix/af_unix.c`, `unix_show_fdinfo`, Linux 5.6).
pub(super) fn queued(text: &[u8]) -> usize {
    field(text, "scm_fds:").and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

/// The files registered with an `io_uring`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Registered {
    /// The paths, without " (deleted)", of those that are deleted.
    pub(super) deleted: Vec<PathBuf>,
    /// Whether there are others of which the text does not tell that.
    pub(super) untold: bool,
}

/// Reads the list below `UserFiles:` (`io_uring/fdinfo.c`, `io_uring_show_fdinfo`). It is left out while
/// the ring is busy. Older kernels, as late as 6.6, write the last component of the path only.
pub(super) fn registered(text: &[u8]) -> Registered {
    let mut lines = text.split(|&byte| byte == b'\n');
    let count = lines.find_map(|line| line.strip_prefix(b"UserFiles:"));
    let is_any = count.is_some_and(|count| count.trim_ascii() != b"0");
    let mut found = Registered::default();
    let mut files = lines.take_while(|line| line.starts_with(b" ")).filter_map(file).peekable();
    found.untold = is_any && files.peek().is_none();
    for file in files {
        let name = unescape(file);
        match (name.strip_suffix(b" (deleted)"), name.first()) {
            // Files in memory, which are on no filesystem that is mounted.
            (Some(path), Some(b'/')) if path.starts_with(b"/memfd:") => {}
            (Some(path), Some(b'/')) => found.deleted.push(OsStr::from_bytes(path).into()),
            // A name that is there, a socket or another thing without name, an empty place.
            (None, Some(b'/') | None) => {}
            _ if name == b"<none>" || name.windows(2).any(|pair| pair == b":[") => {}
            _ => found.untold = true,
        }
    }
    found
}

/// The name in `    0: name`.
fn file(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    line.get(colon + 1..).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_descriptor() {
        let text = b"pos:\t20000\nflags:\t02100002\nmnt_id:\t67\nino:\t17\n";
        let info = DescriptorInfo { flags: OpenFlags(0o2_100_002), position: 20000 };
        assert_eq!((descriptor(text), mount(text), queued(text)), (Some(info), Some(67), 0));
    }

    #[test]
    fn a_socket_with_descriptors_in_its_queue() {
        assert_eq!(queued(b"pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t11675\nscm_fds: 3\n"), 3);
    }

    #[test]
    fn files_of_a_ring() {
        let text = br"SqMask:	0x3
UserFiles:	7
    0: /a/with\040blank\012line\040(deleted)
    1: /there
    2: <none>
    3: anon_inode:[eventfd]
    4: /memfd:x\040(deleted)
    5: /b\040(deleted)\040(deleted)
UserBufs:	0
    0: /no/file\040(deleted)
";
        let deleted = ["/a/with blank\nline", "/b (deleted)"].map(PathBuf::from).to_vec();
        assert_eq!(registered(text), Registered { deleted, untold: false });
    }

    #[test]
    fn what_a_ring_does_not_tell() {
        let untold = |text: &[u8]| registered(text).untold;
        assert!(untold(b"UserFiles:\t1\n    0: file\nUserBufs:\t0\n"), "an older kernel");
        assert!(untold(b"UserFiles:\t1\nUserBufs:\t0\n"), "busy");
        assert!(!untold(b"UserFiles:\t0\nUserBufs:\t0\n") && !untold(b"pos:\t0\n"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..128)) {
            queued(&bytes);
            descriptor(&bytes);
            registered(&[b"UserFiles:\t9\n ", bytes.as_slice()].concat());
        }
    }
}
