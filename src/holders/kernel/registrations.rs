// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was registered with the kernel under a file's name: interpreters, probes, images. The kernel
//! keeps the file and shows the name it was given, not the inode.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Claim;
use super::namespaces::{Interest, Mounted, Namespace, Namespaces};
use crate::holders::patience::Patience;
use crate::model::deleted::{KernelHolder, KernelVia};
use crate::sys::detached::within;
use crate::sys::stat::statx_fd;
use crate::sys::{getdents, scout};

/// All that is registered in any of the namespaces.
pub(super) fn read(namespaces: &Namespaces, patience: &Patience) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (number, namespace) in namespaces.iter().enumerate() {
        for mounted in &namespace.mounts {
            let found = match &mounted.interest {
                Interest::Deleted { .. } => continue,
                Interest::BinfmtMisc => kept_interpreters(namespace, mounted, patience),
                Interest::Tracefs => probed_files(namespace, mounted, patience),
                Interest::Image { file } => {
                    let mut hold = namespaces.hold(namespace, mounted);
                    if !namespace.shows(mounted, patience) {
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

/// The root of that mount, if no other lies over it. On the way to it nothing is mounted: an automount is not
/// triggered by `O_PATH`.
fn root(namespace: &Namespace, mounted: &Mounted, patience: &Patience) -> Result<OwnedFd, Errno> {
    let opened = namespace.open(&[&mounted.point], patience).pop().unwrap_or(Err(Errno::ENOENT))?;
    if mounted.is_shown_by(&statx_fd(opened.as_fd())?) { Ok(opened) } else { Err(Errno::ENOENT) }
}

/// What is in these files of it; nothing for one that does not answer.
fn contents(root: &OwnedFd, names: &[CString], patience: &Patience) -> Vec<Vec<u8>> {
    let contents =
        patience.spend(|timeout| scout::contents(root.as_fd(), names, timeout)).unwrap_or_default();
    contents.into_iter().map(Result::unwrap_or_default).collect()
}

/// Interpreters that entries of `binfmt_misc` keep open.
fn kept_interpreters(
    namespace: &Namespace,
    mounted: &Mounted,
    patience: &Patience,
) -> Vec<(PathBuf, KernelHolder)> {
    let Ok(root) = root(namespace, mounted, patience) else { return Vec::new() };
    let Ok(directory) = root.try_clone() else { return Vec::new() };
    // Whoever takes an entry out may wait for a server with the directory locked; that wait can be killed.
    let list = move || {
        let mut names = Vec::new();
        let listed = getdents::each(directory.as_fd(), c".", |entry| names.push(entry.name.to_owned()));
        listed.map(|()| names)
    };
    let names = patience.spend(|timeout| within(timeout, list));
    let Some(Ok(names)) = names else { return Vec::new() };
    let entry = |(name, text): (&CString, Vec<u8>)| {
        let name = name.to_string_lossy().into_owned();
        Some((kept_interpreter(&text)?, KernelHolder::new(KernelVia::BinfmtMisc, name)))
    };
    names.iter().zip(contents(&root, &names, patience)).filter_map(entry).collect()
}

/// Files in which uprobes are set.
fn probed_files(
    namespace: &Namespace,
    mounted: &Mounted,
    patience: &Patience,
) -> Vec<(PathBuf, KernelHolder)> {
    let Ok(root) = root(namespace, mounted, patience) else { return Vec::new() };
    let text = contents(&root, &[c"uprobe_events".to_owned()], patience).pop().unwrap_or_default();
    let probe = |line| {
        let (name, path) = probed_file(line)?;
        Some((path, KernelHolder::new(KernelVia::Uprobe, name)))
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
