//! What was registered with the kernel under a file's name: interpreters, probes, images. The kernel
//! keeps the file and shows the name it was given, not the inode.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;

use super::namespaces::{BINFMTFS_MAGIC, Namespace, Namespaces, TRACEFS_MAGIC, What};
use super::{Claim, KernelHold, KernelVia};
use crate::holders::process::read_file;
use crate::sys::getdents;

/// All that is registered in any of the namespaces.
pub(super) fn read(namespaces: &Namespaces, timeout: Duration) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (number, namespace) in namespaces.iter().enumerate() {
        for mounted in &namespace.mounts {
            let point = mounted.point.as_path();
            let found = match &mounted.what {
                What::Deleted { .. } => continue,
                What::BinfmtMisc => kept_interpreters(namespace, point, timeout),
                What::Tracefs => probed_files(namespace, point, timeout),
                What::Image { file } => {
                    let mut hold = namespaces.hold(namespace, mounted);
                    if !namespace.shows(mounted, timeout) {
                        hold.mounted = None;
                    }
                    vec![(file.clone(), hold)]
                }
            };
            let claim = |(path, hold)| Claim { unless_in: Some(number), ..Claim::deleted(path, hold) };
            claims.extend(found.into_iter().map(claim));
        }
    }
    claims
}

/// The root of a filesystem of that type, if that is what is found there. On the way to it nothing is
/// mounted: an automount is not triggered by `O_PATH`.
fn root(namespace: &Namespace, point: &Path, magic: u64, timeout: Duration) -> Result<OwnedFd, Errno> {
    let opened = namespace.open(&[point], timeout).pop().unwrap_or(Err(Errno::ENOENT))?;
    let is_it = u64::try_from(fstatfs(&opened)?.filesystem_type().0).is_ok_and(|found| found == magic);
    if is_it { Ok(opened) } else { Err(Errno::ENOENT) }
}

/// Interpreters that entries of `binfmt_misc` keep open.
fn kept_interpreters(namespace: &Namespace, point: &Path, timeout: Duration) -> Vec<(PathBuf, KernelHold)> {
    let Ok(root) = root(namespace, point, BINFMTFS_MAGIC, timeout) else { return Vec::new() };
    let mut names = Vec::new();
    if getdents::each(root.as_fd(), c".", |entry| names.push(entry.name.to_owned())).is_err() {
        return Vec::new();
    }
    let entry = |name: &CString| {
        let text = read_file(root.as_fd(), name).ok()?;
        let name = name.to_string_lossy().into_owned();
        Some((kept_interpreter(&text)?, KernelHold::new(KernelVia::BinfmtMisc, name)))
    };
    names.iter().filter_map(entry).collect()
}

/// Files in which uprobes are set.
fn probed_files(namespace: &Namespace, point: &Path, timeout: Duration) -> Vec<(PathBuf, KernelHold)> {
    let Ok(root) = root(namespace, point, TRACEFS_MAGIC, timeout) else { return Vec::new() };
    let text = read_file(root.as_fd(), c"uprobe_events").unwrap_or_default();
    let probe = |line| {
        let (name, path) = probed_file(line)?;
        Some((path, KernelHold::new(KernelVia::Uprobe, name)))
    };
    text.split(|&byte| byte == b'\n').filter_map(probe).collect()
}

/// Of an entry with flag `F`, which opens the interpreter when it is registered
/// (Documentation/admin-guide/binfmt-misc.rst).
fn kept_interpreter(text: &[u8]) -> Option<PathBuf> {
    let field = |name: &[u8]| text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name));
    let keeps = field(b"flags: ")?.contains(&b'F');
    let path = field(b"interpreter ").filter(|_| keeps)?;
    Some(OsStr::from_bytes(path).into())
}

/// `p:group/event /path:0x1234 arguments`: Documentation/trace/uprobetracer.rst.
fn probed_file(line: &[u8]) -> Option<(String, PathBuf)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let event = fields.next()?.splitn(2, |&byte| byte == b':').nth(1)?;
    let place = fields.next()?;
    let colon = place.iter().rposition(|&byte| byte == b':')?;
    let path = place.get(..colon)?;
    Some((String::from_utf8_lossy(event).into_owned(), OsStr::from_bytes(path).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interpreters_that_are_kept_open() {
        let entry = |flags: &str| {
            let text = format!("enabled\ninterpreter /usr/bin/a b\nflags: {flags}\noffset 0\nmagic 7f45\n");
            kept_interpreter(text.as_bytes())
        };
        assert_eq!(entry("OCF"), Some("/usr/bin/a b".into()));
        assert_eq!(entry("OC"), None);
        assert_eq!(kept_interpreter(b"enabled\n"), None);
    }

    #[test]
    fn probes_name_their_file() {
        let probe = |line: &[u8]| probed_file(line);
        let expected = Some(("uprobes/x".to_owned(), "/usr/lib/a:b.so".into()));
        assert_eq!(probe(b"p:uprobes/x /usr/lib/a:b.so:0x0000000000001234 arg1=%ax"), expected);
        assert_eq!(probe(b"r:uprobes/x /usr/lib/a:b.so:0x10(0x20)"), expected);
        assert_eq!(probe(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..128)) {
            kept_interpreter(&bytes);
            probed_file(&bytes);
        }
    }
}
