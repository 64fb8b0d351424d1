// SPDX-License-Identifier: MIT OR Apache-2.0

//! Against real filesystems, each on a loop device of its own in the mount namespace of the test's
//! thread: when that ends, however it ends, so do mount and device.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use tempfile::TempDir;

use super::*;
use crate::model::last_name::LastName;
use crate::model::traits::Storage;
use crate::mounts::mountinfo::parse;
use crate::sys::stat::statx_fd;

const MIB: u64 = 1 << 20;
/// The smallest that `mkfs.xfs` and `mkfs.btrfs` agree to.
const SIZE: u64 = 300 * MIB;

struct Filesystem {
    dir: TempDir,
    mount: Mount,
    root: OwnedFd,
}

/// Runs `test` on a new filesystem; says so where there are no rights to make one. What follows a
/// semicolon are mount options.
fn on(mkfs: &str, test: impl FnOnce(&Filesystem) + Send + 'static) {
    if !geteuid().is_root() {
        let required = std::env::var_os("WHYFULL_TESTS_REQUIRE_ROOT").is_some_and(|v| v == "1");
        assert!(!required, "skipped where nothing may be: needs root");
        let _ = writeln!(std::io::stderr(), "skipped: needs root");
        return;
    }
    let mkfs = mkfs.to_owned();
    // A thread of its own, because its namespace cannot be left.
    let tested = std::thread::spawn(move || test(&Filesystem::new(&mkfs))).join();
    if let Err(panic) = tested {
        std::panic::resume_unwind(panic);
    }
}

impl Filesystem {
    fn new(mkfs: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let dir = tempfile::Builder::new().prefix("whyfull-").tempdir().unwrap();
        let (image, mountpoint) = (dir.path().join("image"), dir.path().join("fs"));
        fs::create_dir(&mountpoint).unwrap();
        if mkfs == "tmpfs" {
            mount(Some("tmpfs"), &mountpoint, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        } else {
            File::create_new(&image).unwrap().set_len(SIZE).unwrap();
            let (mkfs, options) = mkfs.split_once("; ").unwrap_or((mkfs, "rw"));
            let (mut words, options) = (mkfs.split(' '), format!("loop,{options}"));
            tool(words.next().unwrap(), words.map(OsStr::new).chain([image.as_os_str()]));
            // mount(8) marks the loop device so that it goes with the mount.
            let args = [OsStr::new("-o"), OsStr::new(&options), image.as_os_str(), mountpoint.as_os_str()];
            tool("mount", args.into_iter());
        }
        let (mount, root) = mounted_at(&mountpoint);
        Self { dir, mount, root }
    }

    fn path(&self) -> &Path {
        &self.mount.mountpoint
    }

    /// What is listed, by inode.
    fn listed(&self) -> BTreeMap<u64, Unlinked> {
        match unlinked(&self.mount, &self.root) {
            Ok(Listing::Kept { unlinked: list, .. }) => {
                let count = list.len();
                let listed: BTreeMap<_, _> =
                    list.into_iter().map(|found| (found.stat.inode, found)).collect();
                assert_eq!(listed.len(), count, "each once");
                listed
            }
            other => panic!("{}: {other:?}", self.mount.fstype),
        }
    }

    fn file(&self, name: &str, bytes: usize) -> File {
        let mut file = File::create_new(self.path().join(name)).unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file
    }

    fn deleted(&self, name: &str, bytes: usize) -> File {
        let file = self.file(name, bytes);
        fs::remove_file(self.path().join(name)).unwrap();
        file
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        if umount2(self.path(), MntFlags::MNT_DETACH).is_err() {
            // Never remove what belongs to something that is still mounted here.
            self.dir.disable_cleanup(true);
        }
    }
}

fn mounted_at(mountpoint: &Path) -> (Mount, OwnedFd) {
    let table = parse(&fs::read("/proc/thread-self/mountinfo").unwrap(), TRAITS_OF);
    let mount = table.into_iter().find(|mount| mount.mountpoint == mountpoint).unwrap();
    let root = nix::fcntl::open(mountpoint, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    (mount, root)
}

fn unlinked(mount: &Mount, root: &OwnedFd) -> Result<Listing, Unable> {
    Mounted { mount, root: root.as_fd() }.unlinked()
}

fn tool<'a>(program: &str, args: impl Iterator<Item = &'a OsStr>) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Without a journal there are the inode tables only: those at the end.
const KINDS: [&str; 16] = [
    "mkfs.ext4 -q -F -O orphan_file -b 4096",
    "mkfs.ext4 -q -F -O orphan_file -b 1024",
    "mkfs.ext4 -q -F -O ^orphan_file -b 4096",
    "mkfs.ext4 -q -F -O ^orphan_file -b 1024",
    "mkfs.ext4 -q -F -O orphan_file,^extent,^64bit -b 1024",
    "mkfs.ext4 -q -F -O ^orphan_file,meta_bg,^resize_inode -b 1024",
    "mkfs.ext3 -q -F",
    "mkfs.xfs -q -f",
    "mkfs.btrfs -q -f",
    "mkfs.ext2 -q -F -N 2000",
    "mkfs.ext2 -q -F -b 1024 -r 0 -N 2000",
    "mkfs.ext4 -q -F -O ^has_journal -b 4096",
    "mkfs.ext4 -q -F -O ^has_journal,meta_bg,^resize_inode -b 1024 -I 128 -N 2000",
    "mkfs.ext4 -q -F -N 2000; noload",
    "mkfs.ext4 -q -F -O ^has_journal,bigalloc,sparse_super2,inline_data -I 1024 -N 2000",
    "mkfs.ext4 -q -F -O ^has_journal,^64bit,^metadata_csum,uninit_bg -g 4096 -N 5000",
];

#[test]
fn a_filesystem_without_any_has_an_empty_list() {
    for kind in KINDS {
        on(kind, |filesystem| {
            drop(filesystem.file("there", 100));
            assert!(filesystem.listed().is_empty());
        });
    }
}

#[test]
fn what_is_held_is_listed_with_its_bytes_and_its_name_until_it_is_let_go() {
    for kind in KINDS {
        on(kind, move |filesystem| {
            let sizes = [0, 1, 5000, 300_000];
            let held = sizes.map(|size| filesystem.deleted(&format!("of {size} (deleted)"), size));
            let temporary = temporary(filesystem);
            let linked = filesystem.file("linked", 5000);
            fs::hard_link(filesystem.path().join("linked"), filesystem.path().join("other")).unwrap();
            fs::remove_file(filesystem.path().join("linked")).unwrap();
            filesystem.file("beneath", 10_000).set_len(5).unwrap();

            // What is written out meanwhile may take up another number of blocks.
            for file in &held {
                file.sync_all().unwrap();
            }
            let listed = filesystem.listed();
            for (file, size) in held.iter().zip(sizes) {
                let (expected, found) = (file.metadata().unwrap(), &listed[&file.metadata().unwrap().ino()]);
                assert_eq!(found.stat.allocated, expected.blocks() * 512, "{kind}");
                assert_eq!(found.stat.size, size as u64);
                assert_eq!(found.stat.links, 0);
                let name = filesystem.path().join(format!("of {size} (deleted)"));
                assert_eq!(found.name.path(), Some(name.as_path()), "{kind}");
            }
            let found = &listed[&temporary.metadata().unwrap().ino()];
            assert_eq!((found.name.path(), found.stat.size), (None, 7), "{kind}");
            assert_eq!(listed.len(), held.len() + 1, "{kind}: nothing else: {listed:?}");

            drop((held, temporary, linked));
            // XFS frees them in the background (fs/xfs/xfs_icache.c, `xfs_inodegc_worker`).
            let deadline = Instant::now() + Duration::from_secs(20);
            while !filesystem.listed().is_empty() {
                assert!(Instant::now() < deadline, "{kind}: {:?}", filesystem.listed());
                sleep(Duration::from_millis(20));
            }
        });
    }
}

/// Never named.
fn temporary(filesystem: &Filesystem) -> File {
    let mut options = File::options();
    let mut file =
        options.write(true).custom_flags(libc::O_TMPFILE).open(filesystem.path()).expect("O_TMPFILE");
    file.write_all(b"nothing").unwrap();
    file
}

#[test]
fn what_was_never_named_and_then_linked_is_not_listed() {
    for kind in KINDS {
        on(kind, move |filesystem| {
            let file = temporary(filesystem);
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            let to = filesystem.path().join("linked");
            let flags = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
            nix::unistd::linkat(AT_FDCWD, name.as_str(), AT_FDCWD, &to, flags).unwrap();
            assert!(filesystem.listed().is_empty(), "{kind}");
        });
    }
}

#[test]
fn three_hundred_that_were_never_written_out_are_listed() {
    for kind in KINDS {
        on(kind, move |filesystem| {
            let held: Vec<_> = (0..300).map(|n| filesystem.deleted(&n.to_string(), 20_000)).collect();
            let listed = filesystem.listed();
            let expected: HashSet<_> = held.iter().map(|file| file.metadata().unwrap().ino()).collect();
            let sum: u64 = listed.values().map(|found| found.stat.allocated).sum();
            assert_eq!(listed.into_keys().collect::<HashSet<_>>(), expected, "{kind}");
            assert_eq!(sum, held.iter().map(|file| file.metadata().unwrap().blocks() * 512).sum::<u64>());
        });
    }
}

/// New directories go to another group each, and their files with them.
#[test]
fn every_group_of_the_volume_is_looked_into() {
    for kind in ["mkfs.xfs -q -f", "mkfs.ext4 -q -F -g 8192"] {
        on(kind, move |filesystem| {
            let held: Vec<_> = (0..16)
                .map(|number| {
                    fs::create_dir(filesystem.path().join(number.to_string())).unwrap();
                    filesystem.deleted(&format!("{number}/file"), 5000)
                })
                .collect();
            let inodes: HashSet<_> = held.iter().map(|file| file.metadata().unwrap().ino()).collect();
            let (least, most) = (inodes.iter().min().unwrap(), inodes.iter().max().unwrap());
            assert!(most - least > 10_000, "{kind}: all in one group");
            assert_eq!(filesystem.listed().into_keys().collect::<HashSet<_>>(), inodes, "{kind}");
        });
    }
}

#[test]
fn files_that_come_and_go_meanwhile_hide_none() {
    for kind in KINDS {
        on(kind, move |filesystem| {
            let mut held: Vec<_> = (0..100).map(|n| filesystem.deleted(&n.to_string(), 5000)).collect();
            // Every second one goes while the list is read.
            let going: Vec<_> = (0..50).map(|n| held.remove(n)).collect();
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let at = filesystem.path().to_owned();
            let churn = std::thread::spawn(move || {
                let mut going = going.into_iter();
                let mut round = 0_u64;
                while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let name = at.join(format!("churn{}", round % 7));
                    let file = File::create(&name).unwrap();
                    fs::remove_file(&name).unwrap();
                    drop((file, round.is_multiple_of(10).then(|| going.next())));
                    round += 1;
                }
            });
            for _ in 0..50 {
                let listed = filesystem.listed();
                for file in &held {
                    assert!(listed.contains_key(&file.metadata().unwrap().ino()), "{kind}");
                }
            }
            drop(stop);
            churn.join().unwrap();
        });
    }
}

#[test]
fn a_deleted_directory_and_a_fifo_are_listed() {
    for kind in KINDS {
        on(kind, move |filesystem| {
            let (dir, fifo) = (filesystem.path().join("dir"), filesystem.path().join("fifo"));
            fs::create_dir(&dir).unwrap();
            nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
            let open = |path: &Path| nix::fcntl::open(path, OFlag::O_PATH, Mode::empty()).unwrap();
            let held = [open(&dir), open(&fifo)];
            fs::remove_dir(&dir).unwrap();
            fs::remove_file(&fifo).unwrap();
            let listed = filesystem.listed();
            for (fd, path) in held.iter().zip([dir, fifo]) {
                let expected = statx_fd(fd.as_fd()).unwrap();
                let found = &listed[&expected.inode];
                assert_eq!(found.stat.allocated, expected.allocated, "{kind}");
                assert_eq!(found.name.path(), Some(&*path), "{kind}");
            }
        });
    }
}

#[test]
fn a_mount_of_a_part_lists_the_whole_without_names_from_elsewhere() {
    on(KINDS[0], |filesystem| {
        let (part, at) = (filesystem.path().join("part"), filesystem.dir.path().join("bind"));
        fs::create_dir(&part).unwrap();
        fs::create_dir(&at).unwrap();
        mount(Some(&part), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let held = [filesystem.deleted("outside", 1), filesystem.deleted("part/inside", 1)];
        let (mount, root) = mounted_at(&at);
        let listed = unlinked(&mount, &root);
        umount2(&at, MntFlags::MNT_DETACH).unwrap();
        let Ok(Listing::Kept { unlinked: mut listed, .. }) = listed else { panic!("{listed:?}") };
        listed.sort_by_key(|found| found.name.path().map(Path::to_path_buf));
        let paths: Vec<_> =
            listed.into_iter().map(|found| found.name.path().map(Path::to_path_buf)).collect();
        assert_eq!(paths, [None, Some(at.join("inside"))]);
        drop(held);
    });
}

#[test]
fn every_subvolume_is_looked_into_and_a_deleted_one_is_no_error() {
    on("mkfs.btrfs -q -f", |filesystem| {
        let subvolume = |words: [&str; 2]| {
            let path = filesystem.path().join(words[1]);
            let args = ["subvolume", words[0]].map(OsStr::new);
            tool("btrfs", args.into_iter().chain([path.as_os_str()]));
        };
        subvolume(["create", "first"]);
        subvolume(["create", "gone"]);
        // They have the same inode number, each in its subvolume.
        let held = [filesystem.deleted("first/file", 5000), filesystem.deleted("gone/file", 5000)];
        let list = || unlinked(&filesystem.mount, &filesystem.root);
        let Ok(Listing::Kept { unlinked: listed, .. }) = list() else { panic!() };
        let listed: HashSet<_> =
            listed.into_iter().map(|found| found.name.path().map(Path::to_path_buf)).collect();
        let paths = ["first/file", "gone/file"].map(|name| Some(filesystem.path().join(name)));
        assert_eq!(listed, HashSet::from(paths));
        subvolume(["delete", "gone"]);
        let Ok(Listing::Kept { unlinked: listed, .. }) = list() else { panic!() };
        assert!(
            listed.iter().any(|found| found.name == LastName::Told(filesystem.path().join("first/file")))
        );
        drop(held);
    });
}

#[test]
fn where_no_list_is_kept_none_is_claimed() {
    on("tmpfs", move |filesystem| {
        let _held = filesystem.deleted("held", 5000);
        let listing = unlinked(&filesystem.mount, &filesystem.root);
        assert!(matches!(listing, Ok(Listing::NotKept)), "{listing:?}");
    });
}

#[test]
fn a_device_that_is_not_the_mounts_is_not_read() {
    on(KINDS[0], |filesystem| {
        let other = Mount { dev: crate::sys::Dev { major: 1, minor: 3 }, ..filesystem.mount.clone() };
        let listing = unlinked(&other, &filesystem.root);
        assert!(matches!(listing, Err(Unable::Device(Errno::ENOTBLK | Errno::ENOENT))), "{listing:?}");
        // Named wrongly, it is found by its number.
        let renamed = Mount { source: "/dev/root".into(), ..filesystem.mount.clone() };
        assert!(unlinked(&renamed, &filesystem.root).is_ok());
    });
}

#[test]
fn each_type_has_the_driver_that_knows_it() {
    let traits = |fstype| driver(fstype).traits(fstype);
    for fstype in ["ext2", "ext3", "ext4", "xfs"] {
        assert!(traits(fstype).one_superblock_per_device, "{fstype}");
    }
    let grow = |fstype| traits(fstype).tools.grow;
    let on = Operands { device: "/dev/sdb".as_ref(), mountpoint: "/srv".as_ref(), number: 2 };
    for (fstype, line) in [
        ("ext3", "resize2fs /dev/sdb"),
        ("xfs", "xfs_growfs /srv"),
        ("btrfs", "btrfs filesystem resize 2:max /srv"),
    ] {
        assert_eq!(grow(fstype).map(|command| command.line(&on)).as_deref(), Some(line));
    }
    for fstype in ["f2fs", "ext5", "zfs", "nfs4", "fuse.sshfs"] {
        let tools = traits(fstype).tools;
        assert_eq!((tools.grow, tools.check, tools.repair), (None, None, None), "{fstype}");
    }
    let storage = |fstype| traits(fstype).storage;
    assert_eq!(storage("tmpfs"), Storage::Memory);
    assert_eq!(storage("overlay"), Storage::Layers);
    assert_eq!(storage("fuse.sshfs"), Storage::Server { revalidates_root: false });
    assert_eq!(storage("nfs4"), Storage::Server { revalidates_root: true });
    assert_eq!(storage("fuseblk"), Storage::Device);
    assert_eq!(storage("proc"), Storage::Device);
}
