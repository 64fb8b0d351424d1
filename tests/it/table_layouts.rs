// SPDX-License-Identifier: MIT OR Apache-2.0

//! ext2, ext3 and ext4 read from their inode tables: the same report as from a walk, and nothing left
//! unexplained, on every layout that mkfs can make.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::loop_device::LoopDevice;
use crate::support::report::{list, only, row};
use crate::support::routes::{agrees, run};
use crate::support::tree;
use crate::support::whyfull::whyfull;
use crate::support::{MIB, tool};

/// What mkfs is told, and what mount.
type Layout = (&'static [&'static str], &'static str);

/// Everything that has to be counted in a way of its own.
fn populate(root: &Path) {
    tree::nasty(&root.join("nasty"), 12);
    let fill = |name: &str, size: usize| fs::write(root.join(name), vec![7; size]).unwrap();
    // Through indirect blocks, and more than fits the two bytes that are kept of an inode.
    fill("large", 6 << 20);
    // Within the inode, where that is possible, and just beyond.
    for size in [1, 59, 60, 61, 100, 150, 160, 400, 700, 900] {
        fill(&format!("small{size}"), size);
    }
    let ahead = File::create(root.join("preallocated")).unwrap();
    fallocate(&ahead, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 300_000).or_else(unsupported).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    for island in 0..40 {
        sparse.write_all_at(b"island", island * 300_000).unwrap();
    }
    for (name, kind) in [("character", SFlag::S_IFCHR), ("block", SFlag::S_IFBLK)] {
        mknod(&root.join(name), kind, Mode::S_IRUSR, makedev(1, 3)).unwrap();
    }
    attributes(&root.join("with attributes"));
    tree::flat(&root.join("flat"), 3000);
    tree::chain(&root.join("chain"), "level", 100);
    // Directories that have been larger than they are.
    for number in 0..400 {
        fs::create_dir(root.join("flat").join(format!("directory{number}"))).unwrap();
    }
    for number in 0..2000 {
        fs::remove_file(root.join("flat").join(format!("entry-{number:08}"))).unwrap();
    }
}

/// ext2 has no preallocation.
fn unsupported(errno: nix::errno::Errno) -> nix::Result<()> {
    if errno == nix::errno::Errno::EOPNOTSUPP { Ok(()) } else { Err(errno) }
}

/// Attributes of all sizes, the same ones on several files, and access control lists.
fn attributes(root: &Path) {
    fs::create_dir(root).unwrap();
    for file in 0..4 {
        for length in [30, 300, 3000, 12_000] {
            let path = root.join(format!("{file}.{length}"));
            fs::write(&path, vec![1; 2000 * file]).unwrap();
            tree::set_attribute(&path, length);
        }
        access_control(&root.join(format!("{file}.30")));
    }
}

/// `struct posix_acl_xattr_header` and entries: `include/uapi/linux/posix_acl_xattr.h`.
fn access_control(path: &Path) {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1, 6, u32::MAX), (2, 6, 1000), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 4, u32::MAX)]
    {
        value.extend(u16::to_le_bytes(tag));
        value.extend(u16::to_le_bytes(permissions));
        value.extend(u32::to_le_bytes(id));
    }
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = c"system.posix_acl_access".as_ptr();
    // SAFETY: both strings end with NUL, `value` has its length.
    let done = unsafe { libc::setxattr(path.as_ptr(), name, value.as_ptr().cast(), value.len(), 0) };
    match nix::errno::Errno::result(done) {
        Ok(_) | Err(nix::errno::Errno::ENOTSUP | nix::errno::Errno::ENOSPC) => {}
        Err(error) => panic!("setxattr: {error}"),
    }
}

fn each(layouts: &[Layout]) {
    for (mkfs, options) in layouts {
        let fs = Filesystem::ext4_with(96 * MIB, mkfs, options);
        let what = format!("{mkfs:?} {options}");
        agrees(fs.path(), &format!("{what}, empty"));
        populate(fs.path());
        agrees(fs.path(), &format!("{what}, dirty"));
        tool("sync", &[OsStr::new("-f"), fs.path().as_os_str()]);
        agrees(fs.path(), &format!("{what}, synced"));
        covered(&fs, &what);
        held(&fs, &what);
    }
}

/// Mounts over directories and files, names of hard links on both sides.
fn covered(fs: &Filesystem, what: &str) {
    let at = |name: &str| fs.path().join(name);
    fs::create_dir_all(at("covered/below/further")).unwrap();
    fs::write(at("covered/file"), vec![1; 100_000]).unwrap();
    fs::write(at("covered/below/further/file"), vec![1; 50_000]).unwrap();
    fs::hard_link(at("covered/file"), at("beside")).unwrap();
    fs::write(at("covered/both"), vec![1; 30_000]).unwrap();
    fs::hard_link(at("covered/both"), at("covered/below/both")).unwrap();
    for name in ["file covered", "link covered", "link"] {
        fs::write(at(name), vec![1; 20_000]).unwrap();
    }
    fs::remove_file(at("link covered")).unwrap();
    fs::hard_link(at("link"), at("link covered")).unwrap();
    mount_tmpfs(&at("covered/below"), MIB, nix::mount::MsFlags::empty());
    mount_tmpfs(&at("covered"), MIB, nix::mount::MsFlags::empty());
    bind(Path::new("/dev/null"), &at("file covered"));
    bind(Path::new("/dev/null"), &at("link covered"));
    let report = agrees(fs.path(), &format!("{what}, covered"));
    assert!(row(&report, "hidden_by_mount") > 100_000, "{report:#}");
}

/// Files without names.
fn held(fs: &Filesystem, what: &str) {
    let held: Vec<File> = (0..5)
        .map(|number| {
            let path = fs.path().join(format!("held{number}"));
            fs::write(&path, vec![1; 40_000 * number]).unwrap();
            let file = File::open(&path).unwrap();
            fs::remove_file(path).unwrap();
            file
        })
        .collect();
    let report = agrees(fs.path(), &format!("{what}, held"));
    assert!(row(&report, "unlinked_unattributed") >= 400_000, "{report:#}");
    drop(held);
}

#[test]
fn ext2_and_ext3() {
    require_root!();
    each(&[
        (&["-t", "ext2"], ""),
        (&["-t", "ext2", "-b", "1024", "-I", "128"], ""),
        (&["-t", "ext2", "-r", "0", "-b", "2048"], ""),
        (&["-t", "ext3"], ""),
        (&["-t", "ext3", "-b", "1024", "-I", "128", "-N", "20000"], "data=journal"),
    ]);
}

#[test]
fn ext4_block_and_inode_sizes() {
    require_root!();
    each(&[
        (&["-b", "1024"], ""),
        (&["-b", "2048", "-I", "512"], "nodelalloc"),
        (&["-b", "4096", "-N", "20000"], ""),
        (&["-b", "4096", "-I", "128", "-N", "20000"], ""),
        (&["-b", "4096", "-I", "4096", "-N", "6000"], ""),
    ]);
}

#[test]
fn ext4_places_of_groups() {
    require_root!();
    each(&[
        (&["-O", "meta_bg,^resize_inode", "-b", "1024"], ""),
        (&["-O", "sparse_super2", "-b", "1024"], ""),
        (&["-O", "^64bit", "-b", "1024"], ""),
        (&["-O", "^flex_bg,^sparse_super,^resize_inode", "-b", "1024"], ""),
        (&["-O", "^metadata_csum,uninit_bg", "-g", "4096", "-N", "20000"], ""),
        (&["-O", "bigalloc", "-C", "16384"], ""),
    ]);
}

#[test]
fn ext4_journals_and_orphans() {
    require_root!();
    each(&[
        (&["-O", "^has_journal", "-N", "20000"], ""),
        (&["-O", "orphan_file", "-N", "20000"], ""),
        (&["-O", "mmp", "-b", "1024"], ""),
        (&["-N", "20000"], "noload"),
        (&["-N", "20000"], "minixdf"),
        (&["-O", "bigalloc,^has_journal", "-C", "4096", "-b", "1024", "-N", "20000"], "minixdf"),
    ]);
}

#[test]
fn ext4_names_and_attributes() {
    require_root!();
    each(&[
        (&["-O", "inline_data", "-N", "20000"], ""),
        (&["-O", "inline_data,ea_inode", "-I", "1024", "-b", "4096", "-N", "12000"], ""),
        (&["-O", "ea_inode", "-b", "1024", "-N", "20000"], ""),
        (&["-O", "ea_inode,bigalloc", "-C", "16384", "-I", "128"], ""),
        (&["-O", "large_dir,^dir_index,^filetype", "-b", "1024"], ""),
        (&["-O", "^extent,^64bit,^dir_index", "-b", "1024", "-N", "20000"], ""),
    ]);
}

/// Inodes that share a block of attributes are each charged for the values that it leads to.
#[test]
fn ext4_shared_attribute_values() {
    require_root!();
    for mkfs in [
        ["-O", "ea_inode", "-b", "4096", "-I", "128"].as_slice(),
        &["-O", "ea_inode", "-b", "4096", "-I", "256"],
        &["-O", "bigalloc,inline_data,ea_inode,orphan_file,mmp", "-C", "16384", "-b", "1024"],
    ] {
        let fs = Filesystem::ext4_with(96 * MIB, mkfs, "");
        let mut held = Vec::new();
        for number in 0..6 {
            let path = fs.path().join(format!("file{number}"));
            fs::write(&path, "").unwrap();
            for (name, length) in [("user.a", 200), ("user.big", 20_000), ("user.second", 12_000)] {
                xattr::set(&path, name, &vec![1; length]).unwrap();
            }
            // Some have a value of their own too.
            if number % 2 == 0 {
                xattr::set(&path, "user.own", &vec![1; 9000 + number * 1000]).unwrap();
            }
            if number == 5 {
                held.push(File::open(&path).unwrap());
                fs::remove_file(path).unwrap();
            }
        }
        agrees(fs.path(), &format!("{mkfs:?}, dirty"));
        tool("sync", &[OsStr::new("-f"), fs.path().as_os_str()]);
        agrees(fs.path(), &format!("{mkfs:?}, synced"));
    }
}

/// Filled by mkfs: a kernel without quotas mounts such a filesystem read-only.
#[test]
fn ext4_quotas() {
    require_root!();
    let from = crate::support::temp_dir();
    tree::ordinary(&from.path().join("tree"), &mut tree::Random::new(13));
    let from = from.path().to_str().unwrap();
    for (features, quotas) in [("quota", "usrquota"), ("quota,project", "usrquota:grpquota:prjquota")] {
        let types = format!("quotatype={quotas}");
        let mkfs = ["-O", features, "-E", &types, "-d", from];
        let fs = Filesystem::ext4_with(96 * MIB, &mkfs, "ro");
        let report = agrees(fs.path(), quotas);
        let metadata = list(&report["ledger"]).iter().find(|row| row["cause"] == "metadata").unwrap();
        let names: Vec<_> =
            list(&metadata["detail"]).iter().filter_map(|part| part["name"].as_str()).collect();
        assert!(names.contains(&"user quota"), "{metadata:#}");
        assert_eq!(names.contains(&"project quota"), quotas.contains("prj"), "{metadata:#}");
    }
}

/// A filesystem in an image that is at hand before it is mounted.
struct Image<'a> {
    /// What it lies on.
    home: &'a Filesystem,
    path: PathBuf,
}

impl<'a> Image<'a> {
    fn new(home: &'a Filesystem, size: u64, mkfs: &[&str]) -> Self {
        let path = home.path().join("image");
        File::create_new(&path).unwrap().set_len(size).unwrap();
        let args: Vec<_> = ["-q", "-F"].iter().chain(mkfs).map(OsStr::new).collect();
        tool("mkfs.ext4", &[args.as_slice(), &[path.as_os_str()]].concat());
        Self { home, path }
    }

    fn debugfs(&self, request: &str) {
        tool("debugfs", &["-w".as_ref(), "-R".as_ref(), request.as_ref(), self.path.as_os_str()]);
    }

    fn mount(&self, options: &str) -> PathBuf {
        let at = self.home.beside("mounted");
        let options = format!("loop,{options}");
        tool("mount", &["-o".as_ref(), options.as_ref(), self.path.as_os_str(), at.as_os_str()]);
        at
    }
}

/// Known to be bad when the filesystem was made; some of them lie in copies of descriptors.
#[test]
fn bad_blocks() {
    require_root!();
    for (layout, ranges) in [
        (["-b", "1024"].as_slice(), [3000..3100, 9000..9500].as_slice()),
        // The copy in the second group begins at block 8193.
        (&["-b", "1024"], &[3000..3005, 8200..8210]),
        (&["-b", "4096"], &[3000..3100, 7000..7001]),
        (&["-b", "1024", "-O", "bigalloc", "-C", "16384"], &[3000..3100, 7000..7001]),
    ] {
        let home = Filesystem::tmpfs(128 * MIB);
        let numbers = ranges.iter().cloned().flatten().map(|block: u32| format!("{block}\n"));
        let list = home.path().join("bad");
        fs::write(&list, numbers.collect::<String>()).unwrap();
        let image = Image::new(&home, 64 * MIB, &[layout, &["-l", list.to_str().unwrap()]].concat());
        // mkfs takes those among descriptors off what is free a second time, until this mends it.
        let mended = Command::new("e2fsck").args(["-fy".as_ref(), image.path.as_os_str()]).output().unwrap();
        assert!(mended.status.code().is_some_and(|code| code <= 1), "{mended:?}");
        agrees(&image.mount("rw"), &format!("{layout:?}, {ranges:?} bad"));
    }
}

/// Its inode and its blocks stay when only the feature is taken away.
#[test]
fn journal_that_is_not_in_use() {
    require_root!();
    let home = Filesystem::tmpfs(128 * MIB);
    let image = Image::new(&home, 64 * MIB, &[]);
    image.debugfs("feature -has_journal -needs_recovery");
    let report = agrees(&image.mount("rw"), "journal that is not in use");
    let metadata = list(&report["ledger"]).iter().find(|row| row["cause"] == "metadata").unwrap();
    let named = |part: &&serde_json::Value| part["name"] == "journal that is not in use";
    let journal = list(&metadata["detail"]).iter().find(named).unwrap();
    assert!(journal["bytes"].as_u64().unwrap() >= MIB, "{metadata:#}");
}

/// As a crash leaves it where there is no journal: no name, and nobody who would free it.
#[test]
fn inodes_that_nobody_can_reach() {
    require_root!();
    let (home, from) = (Filesystem::tmpfs(128 * MIB), crate::support::temp_dir());
    fs::write(from.path().join("lost"), vec![1; 3_000_000]).unwrap();
    fs::write(from.path().join("kept"), vec![1; 100_000]).unwrap();
    let image = Image::new(&home, 64 * MIB, &["-O", "^has_journal", "-d", from.path().to_str().unwrap()]);
    image.debugfs("set_inode_field lost links_count 0");
    image.debugfs("unlink lost");
    let at = image.mount("rw");
    for method in ["table", "walk"] {
        let report = run(&at, method);
        let fs = only(&report);
        // In blocks of 1 KiB.
        assert_eq!(row(fs, "unreachable"), 2930 * 1024, "{fs:#}");
        assert_eq!(row(fs, "unexplained"), 0, "{fs:#}");
    }
    let text = whyfull().arg(&at).in_pid_namespace().run();
    assert!(text.text().contains("deleted, not freed"), "{text:?}");
}

#[test]
fn resized_full_and_remounted() {
    require_root!();
    let home = Filesystem::tmpfs(256 * MIB);
    let from = crate::support::temp_dir();
    tree::ordinary(&from.path().join("before"), &mut tree::Random::new(14));
    let from = from.path().to_str().unwrap();
    let image = Image::new(&home, 48 * MIB, &["-b", "1024", "-N", "20000", "-d", from]);
    File::options().write(true).open(&image.path).unwrap().set_len(160 * MIB).unwrap();
    tool("resize2fs", &["-f".as_ref(), image.path.as_os_str()]);
    let at = image.mount("rw");
    agrees(&at, "resized");
    populate(&at.join("nasty"));
    agrees(&at, "resized and filled");
    let mut full = File::create(at.join("full")).unwrap();
    let piece = vec![1; 1 << 16];
    while std::io::Write::write_all(&mut full, &piece).is_ok() {}
    drop(full);
    agrees(&at, "full");
    for options in ["remount,ro", "remount,rw"] {
        tool("mount", &["-o".as_ref(), options.as_ref(), at.as_os_str()]);
        agrees(&at, options);
    }
}

/// A journal on a device of its own takes up nothing here.
#[test]
fn external_journal() {
    require_root!();
    let home = Filesystem::tmpfs(192 * MIB);
    let journal = Image::new(&home, 16 * MIB, &["-O", "journal_dev", "-b", "1024"]);
    let device = LoopDevice::on(&journal.path);
    fs::rename(&journal.path, home.path().join("journal")).unwrap();
    let image =
        Image::new(&home, 96 * MIB, &["-b", "1024", "-J", &format!("device={}", device.node().display())]);
    let at = image.mount("rw");
    populate(&at.join("nasty"));
    agrees(&at, "external journal");
}

/// The names are ciphers: the sums are right all the same.
#[test]
fn encrypted_directories() {
    require_root!();
    let mkfs = ["-O", "encrypt", "-b", "4096", "-N", "20000"];
    let fs = Filesystem::ext4_with(96 * MIB, &mkfs, "test_dummy_encryption");
    tree::ordinary(&fs.path().join("ordinary"), &mut tree::Random::new(15));
    tree::hard_links(&fs.path().join("links"));
    let reports = ["table", "walk"].map(|method| run(fs.path(), method));
    let [tables, walk] = reports.each_ref().map(|report| {
        let fs = only(report);
        assert_eq!(row(fs, "unexplained"), 0, "{fs:#}");
        let sums = list(&fs["directories"]).iter().map(|d| (d["bytes"].as_u64(), d["inodes"].as_u64()));
        let mut sums: Vec<_> = sums.collect();
        sums.sort_unstable();
        (row(fs, "visible"), sums)
    });
    assert_eq!(tables, walk);
    // A mount point there cannot be found: what can be, is done.
    fs::create_dir(fs.path().join("ordinary/point")).unwrap();
    mount_tmpfs(&fs.path().join("ordinary/point"), MIB, nix::mount::MsFlags::empty());
    let report = run(fs.path(), "auto");
    assert_eq!(only(&report)["method"], "walk");
    assert!(only(&report)["method_note"].as_str().unwrap().contains("encrypted"), "{report:#}");
}
