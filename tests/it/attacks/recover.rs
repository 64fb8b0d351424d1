// SPDX-License-Identifier: MIT OR Apache-2.0

//! `recover`: directories, names and attributes that hostile users choose.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::MsFlags;
use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::report::list;
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::{KIB, MIB, NOBODY, acl, default_acl, temp_dir};

/// A deleted file that this process holds.
struct Deleted(File);

impl Deleted {
    fn new(directory: &Path, name: impl AsRef<OsStr>, contents: &str) -> Self {
        let path = directory.join(name.as_ref());
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(contents.as_bytes()).unwrap();
        fs::remove_file(&path).unwrap();
        Self(file)
    }

    fn what(&self) -> String {
        format!("{}:{}", std::process::id(), self.0.as_raw_fd())
    }

    fn to(&self, destination: &Path) -> Whyfull {
        whyfull().args(&["recover", &self.what()]).arg(destination)
    }
}

fn all(fs: &Filesystem, directory: &Path) -> Whyfull {
    whyfull().args(&["recover", "--all"]).arg(directory).arg("--filesystem").arg(fs.path())
}

fn names(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name != "lost+found");
    names.sort();
    names
}

/// A directory of nobody's, and one of root's, side by side.
fn directories() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let out = temp_dir();
    let [theirs, roots] = ["theirs", "roots"].map(|name| out.path().join(name));
    for directory in [&theirs, &roots] {
        fs::create_dir(directory).unwrap();
    }
    chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
    (out, theirs, roots)
}

#[test]
fn the_index_keeps_its_name() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(16 * MIB), temp_dir());
    let forged = r#"{"forged":true,"files":[]}"#;
    let _held = ["whyfull-index.json", "WHYFULL-INDEX.JSON", "inode-12", "x"]
        .map(|name| Deleted::new(fs.path(), name, forged));
    for (round, args) in [[].as_slice(), &["--force"], &["--force"], &["--preserve"]].into_iter().enumerate()
    {
        // The third time everything is there already.
        let to = out.path().join(if round == 2 { "1".to_owned() } else { round.to_string() });
        fs::create_dir_all(&to).unwrap();
        let said = all(&fs, &to).args(args).done();
        let index: Value = serde_json::from_slice(&fs::read(to.join("whyfull-index.json")).unwrap()).unwrap();
        assert_eq!(index, said);
        let saved: Vec<_> = list(&index["files"])
            .iter()
            .map(|file| file["copied"]["destination"].as_str().unwrap())
            .collect();
        assert_eq!(saved.len(), 4);
        for copy in &saved {
            assert_eq!(fs::read_to_string(copy).unwrap(), forged, "{saved:?}");
        }
        assert_eq!(names(&to).len(), if round == 2 { 9 } else { 5 }, "{:?}", names(&to));
    }
}

#[test]
fn names_that_hostile_users_choose() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(16 * MIB), temp_dir());
    let long = "n".repeat(255);
    let chosen: [&[u8]; 7] =
        [b"-rf", b"...", b"\x1b[2J\n\r", b"\xff\xfe", b".whyfull-1-0", b"a (deleted)", long.as_bytes()];
    // Two of each: one of them gets another name.
    let mut held = Vec::new();
    for round in ["first", "second"] {
        held.extend(chosen.map(|name| Deleted::new(fs.path(), OsStr::from_bytes(name), round)));
    }
    let said = all(&fs, out.path()).done();
    assert_eq!(list(&said["files"]).len(), 14, "{said:#}");
    let copies: Vec<_> = names(out.path()).into_iter().filter(|name| name != "whyfull-index.json").collect();
    assert_eq!(copies.len(), 14, "{copies:?}");
    let read = |name: &OsString| fs::read_to_string(out.path().join(name)).unwrap();
    for round in ["first", "second"] {
        assert_eq!(copies.iter().filter(|name| read(name) == round).count(), 7);
    }
    for name in chosen {
        assert!(copies.iter().any(|copy| copy.as_bytes() == name), "{copies:?}");
    }
}

#[test]
fn no_link_is_followed_that_could_be_another_users() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let held = Deleted::new(fs.path(), "cronjob", "* * * * * root id\n");
    let (out, theirs, roots) = directories();
    let refused = |destination: &Path| {
        for force in [[].as_slice(), &["--force"], &["--preserve"]] {
            held.to(destination).args(force).refused("is a symbolic link");
            assert!(names(&roots).is_empty() && names(&theirs).len() == 1, "{}", destination.display());
        }
    };
    let link = theirs.join("link");
    for leads_to in [roots.clone(), PathBuf::from("../roots"), roots.join("cronjob")] {
        symlink(leads_to, &link).unwrap();
        for destination in
            [link.clone(), link.join(""), link.join("."), link.join("x"), link.join("../roots/x")]
        {
            refused(&destination);
        }
        for directory in [link.clone(), link.join("")] {
            all(&fs, &directory).refused("is a symbolic link");
            assert!(names(&roots).is_empty());
        }
        fs::remove_file(&link).unwrap();
    }
    // A link of root's, but to one of another user; and one where everybody can write.
    symlink(&roots, &link).unwrap();
    symlink(&link, out.path().join("way")).unwrap();
    refused(&out.path().join("way/x"));
    refused(&out.path().join("way/"));
    fs::remove_file(&link).unwrap();
    fs::set_permissions(&theirs, Permissions::from_mode(0o1777)).unwrap();
    chown(&theirs, Some(0), Some(0)).unwrap();
    symlink(&roots, &link).unwrap();
    refused(&link.join("x"));
}

#[test]
fn links_of_root_in_directories_of_root_are_followed() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let held = Deleted::new(fs.path(), "file", "contents");
    let (out, theirs, roots) = directories();
    symlink("roots", out.path().join("backup")).unwrap();
    held.to(&out.path().join("backup/copy")).done();
    held.to(&out.path().join("backup/")).done();
    let run = all(&fs, &out.path().join("backup/")).run();
    assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
    assert_eq!(names(&roots), ["copy", "file", "file.inode-2", "whyfull-index.json"].map(OsString::from));
    // Into a directory of another user's without any link: that is what was asked for.
    held.to(&theirs).done();
    assert_eq!(names(&theirs), ["file"]);
    // The last part is not followed, whoever made it.
    held.to(&out.path().join("backup")).refused("is a symbolic link");
}

/// Exchanges two names all the time until it is dropped.
fn while_exchanging(first: &Path, second: &Path, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, first, AT_FDCWD, second, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        work.unwrap();
    });
}

/// The race in which root's directory is never reached: DEST itself, and a directory on the way.
#[test]
fn a_directory_that_is_exchanged_for_a_link_all_the_time() {
    const ROUNDS: u32 = 30;
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let held = Deleted::new(fs.path(), "cronjob", "* * * * * root id\n");
    for below in ["", "inner"] {
        let (_out, theirs, roots) = directories();
        let (destination, link) = (theirs.join("destination"), theirs.join("link"));
        fs::create_dir_all(destination.join(below)).unwrap();
        fs::create_dir_all(roots.join(below)).unwrap();
        symlink(&roots, &link).unwrap();
        while_exchanging(&destination, &link, || {
            for _ in 0..ROUNDS {
                let run = held.to(&destination.join(below)).arg("--no-progress").arg("--force").run();
                assert!(matches!(run.code(), Some(0 | 2)), "{run:?}");
                let run = all(&fs, &destination.join(below)).args(&["--force"]).run();
                assert!(matches!(run.code(), Some(0..=2)), "{run:?}");
                let reached: Vec<_> =
                    names(&roots.join(below)).into_iter().filter(|name| name != "inner").collect();
                assert!(reached.is_empty(), "{reached:?}");
            }
        });
    }
}

#[test]
fn a_copy_is_private_whatever_the_directory_says() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    let held = Deleted::new(fs.path(), "file", "secret");
    held.0.set_permissions(Permissions::from_mode(0o640)).unwrap();
    let out = fs.path().join("out");
    fs::create_dir(&out).unwrap();
    xattr::set(&out, "system.posix_acl_default", &default_acl(NOBODY)).unwrap();
    for (args, mode) in [([].as_slice(), 0o600), (&["--preserve"], 0o640)] {
        let copy = out.join(format!("copy{mode}"));
        held.to(&copy).args(args).done();
        assert_eq!(copy.metadata().unwrap().mode() & 0o7777, mode);
        assert_eq!(xattr::get(&copy, "system.posix_acl_access").unwrap(), None, "{args:?}");
    }
    all(&fs, &out).arg("--preserve").done();
    for name in ["file", "whyfull-index.json"] {
        assert_eq!(xattr::get(out.join(name), "system.posix_acl_access").unwrap(), None, "{name}");
    }
}

/// A program that is set-user-ID on a filesystem that is mounted without that (`nosuid`) was no danger.
#[test]
fn no_copy_is_a_privileged_program() {
    require_root!();
    let source = Filesystem::tmpfs_with(MIB, MsFlags::MS_NOSUID);
    let fs = Filesystem::ext4(16 * MIB);
    for owner in [0, NOBODY] {
        let held = Deleted::new(source.path(), "program", "#!/bin/sh\n");
        nix::unistd::fchown(&held.0, Some(owner.into()), Some(owner.into())).unwrap();
        held.0.set_permissions(Permissions::from_mode(0o6755)).unwrap();
        // VFS_CAP_REVISION_2 with CAP_SETUID: include/uapi/linux/capability.h.
        let capability = [0x0200_0001_u32, 1 << 7, 0, 0, 0].map(u32::to_le_bytes).concat();
        xattr::FileExt::set_xattr(&held.0, "security.capability", &capability).unwrap();
        xattr::FileExt::set_xattr(&held.0, "trusted.overlay.opaque", b"y").unwrap();
        let copy = fs.path().join(format!("program{owner}"));
        let said = held.to(&copy).arg("--preserve").done();
        let metadata = copy.metadata().unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o755, owner));
        assert_eq!(xattr::list(&copy).unwrap().count(), 0);
        let notes = said["notes"].to_string();
        for words in ["set-user-ID", "security.capability", "trusted.overlay.opaque"] {
            assert!(notes.contains(words), "{notes}");
        }
    }
}

#[test]
fn an_access_control_list_is_kept_whole_or_nobody_gets_anything() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    // Where there are no such lists.
    let other = fs.beside("ramfs");
    nix::mount::mount(Some("ramfs"), &other, Some("ramfs"), MsFlags::empty(), None::<&str>).unwrap();
    let held = Deleted::new(fs.path(), "file", "secret");
    // One user may read it, its group may not: the mode shows what the list may grant at most.
    let original = acl(&[
        (0x01, 6, u32::MAX),
        (0x02, 4, NOBODY),
        (0x04, 0, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ]);
    xattr::FileExt::set_xattr(&held.0, "system.posix_acl_access", &original).unwrap();
    assert_eq!(held.0.metadata().unwrap().mode() & 0o777, 0o640);
    let kept = fs.path().join("kept");
    held.to(&kept).arg("--preserve").done();
    assert_eq!(kept.metadata().unwrap().mode() & 0o777, 0o640);
    assert_eq!(xattr::get(&kept, "system.posix_acl_access").unwrap(), Some(original));
    let lost = other.join("lost");
    let said = held.to(&lost).arg("--preserve").done();
    assert_eq!(lost.metadata().unwrap().mode() & 0o777, 0o600, "{said:#}");
    assert!(said["notes"].to_string().contains("0600"), "{said:#}");
}

/// Whoever may not give a file away gives its rights to nobody else.
#[test]
fn without_the_right_to_give_it_to_its_group_the_group_gets_nothing() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(16 * MIB), temp_dir());
    fs::set_permissions(out.path(), Permissions::from_mode(0o777)).unwrap();
    let held = crate::support::holder::Holder::start_as_nobody("fd", &{
        let open = fs.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        open.join("file")
    });
    let file = File::open(held.file()).unwrap();
    nix::unistd::fchown(&file, None, Some(7.into())).unwrap();
    file.set_permissions(Permissions::from_mode(0o640)).unwrap();
    let copy = out.path().join("copy");
    let run = whyfull().args(&["recover", &held.what(), "--preserve"]).arg(&copy).by_nobody();
    let said = run.done();
    let metadata = copy.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o600, NOBODY), "{said:#}");
}

#[test]
fn errors_are_told_as_they_are() {
    require_root!();
    let fs = Filesystem::tmpfs(4 * MIB);
    let held = Deleted::new(fs.path(), "file", &"x".repeat(usize::try_from(64 * KIB).unwrap()));
    let out = Filesystem::tmpfs_with(MIB, MsFlags::empty());
    held.to(&out.path().join("n".repeat(256))).refused("File name too long");
    held.to(&out.path().join("missing/copy")).refused("No such file or directory");
    let file = out.path().join("a-file");
    fs::write(&file, "").unwrap();
    held.to(&file.join("copy")).refused("Not a directory");
    all(&fs, &file).refused("Not a directory");
    all(&fs, &out.path().join("missing")).refused("No such file or directory");
    let frozen = out.path().join("frozen");
    fs::create_dir(&frozen).unwrap();
    nix::mount::mount(Some(&frozen), &frozen, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    nix::mount::mount(None::<&str>, &frozen, None::<&str>, flags, None::<&str>).unwrap();
    held.to(&frozen).refused("Read-only file system");
    held.to(&frozen).arg("--force").refused("Read-only file system");
    let without_inodes = out.beside("without-inodes");
    let options = Some("nr_inodes=1");
    nix::mount::mount(Some("tmpfs"), &without_inodes, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    held.to(&without_inodes).refused("no room even for an empty file");
    let own = crate::support::holder::Holder::start_as_nobody("fd", &{
        let open = fs.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        open.join("own")
    });
    whyfull().args(&["recover", &own.what()]).arg(out.path()).by_nobody().refused("Permission denied");
    // More than a file may have (`ulimit -f`).
    let mut command = held.to(&out.path().join("limited")).command();
    // SAFETY: makes a system call and allocates nothing.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, 4096, 4096)?;
            Ok(())
        });
    }
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && errors.contains("limited: File too large"), "{errors}");
    assert_eq!(names(out.path()), ["a-file", "frozen"].map(OsString::from));
}
