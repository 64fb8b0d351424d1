// SPDX-License-Identifier: MIT OR Apache-2.0

//! What lies around what `df` counts, to the byte, on every layout that mkfs can make: dumpe2fs, statvfs
//! and the device itself are the oracles.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::loop_device::LoopDevice;
use crate::support::report::{list, number, only, report, row};
use crate::support::whyfull::whyfull;
use crate::support::{MIB, NOBODY, tool};

const TABLES: &str = "superblocks, tables and bitmaps";
const JOURNAL: &str = "journal";
const LOG: &str = "log";
const BEYOND: &str = "beyond the filesystem's end";

/// No multiple of a block or cluster.
const UNEVEN: u64 = 24 * MIB + 1536;

/// The amount of this name; none is nothing.
fn part(parts: &Value, name: &str) -> i128 {
    let parts = list(parts).iter();
    parts.filter(|part| part["name"] == name).map(|part| number(&part["bytes"])).sum()
}

fn sum(parts: &Value) -> i128 {
    list(parts).iter().map(|part| number(&part["bytes"])).sum()
}

/// What dumpe2fs says of a filesystem.
struct Dump(String);

impl Dump {
    fn of(device: &str) -> Self {
        let out = Command::new("dumpe2fs").arg("-h").arg(device).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        Self(String::from_utf8(out.stdout).unwrap())
    }

    fn find(&self, field: &str) -> Option<i128> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().parse().unwrap())
    }

    fn get(&self, field: &str) -> i128 {
        self.find(field).unwrap_or_else(|| panic!("{field}: {}", self.0))
    }

    fn block(&self) -> i128 {
        self.get("Block size")
    }

    /// Without `bigalloc` that is a block.
    fn cluster(&self) -> i128 {
        self.find("Cluster size").unwrap_or_else(|| self.block())
    }
}

fn length(device: &str) -> i128 {
    File::open(device).unwrap().seek(SeekFrom::End(0)).unwrap().into()
}

fn source(fs: &Value) -> String {
    fs["source"].as_str().unwrap().to_owned()
}

fn reserved_clusters(device: &str) -> PathBuf {
    Path::new("/sys/fs/ext4").join(Path::new(device).file_name().unwrap()).join("reserved_clusters")
}

/// Compares everything with what others say of it.
fn agrees(path: &Path, what: &str) -> Value {
    let report = report(path);
    let fs = only(&report).clone();
    let (device, capacity) = (source(&fs), &fs["capacity"]);
    let dump = Dump::of(&device);
    assert_eq!(number(&capacity["device_bytes"]), length(&device), "{what}");
    let stat = statvfs(path).unwrap();
    let size = i128::from(stat.blocks() * stat.fragment_size());
    let uncounted = &capacity["uncounted"];
    assert_eq!(size + sum(uncounted), length(&device), "{what}: {capacity:#}");
    let beyond = length(&device) - dump.get("Block count") * dump.block();
    assert_eq!(part(uncounted, BEYOND), beyond, "{what}: {capacity:#}");
    let overhead = dump.get("Overhead clusters") * dump.cluster();
    let parts = if what.contains("minixdf") {
        &list(&fs["ledger"]).iter().find(|row| row["cause"] == "metadata").unwrap()["detail"]
    } else {
        uncounted
    };
    assert_eq!(part(parts, TABLES) + part(parts, JOURNAL), overhead, "{what}: {fs:#}");
    let journal = dump.find("Total journal blocks").unwrap_or(0) * dump.block();
    let journal = if dump.find("Journal inode").is_some() { journal } else { 0 };
    assert_eq!(part(parts, JOURNAL), journal, "{what}: {fs:#}");
    assert_eq!(row(&fs, "unexplained"), 0, "{what}: {fs:#}");
    reserve_agrees(capacity, &dump, &device, what);
    fs
}

fn reserve_agrees(capacity: &Value, dump: &Dump, device: &str, what: &str) {
    let blocks = number(&capacity["reserved_blocks_bytes"]);
    assert_eq!(blocks, dump.get("Reserved block count") * dump.block(), "{what}");
    let text = fs::read_to_string(reserved_clusters(device)).unwrap();
    let clusters = text.trim().parse::<i128>().unwrap() * dump.cluster();
    assert_eq!(number(&capacity["reserved_clusters_bytes"]), clusters, "{what}");
    let reserved = number(&capacity["free_bytes"]).min(blocks + clusters);
    assert_eq!(number(&capacity["reserved_bytes"]), reserved, "{what}: {capacity:#}");
}

#[test]
fn it_all_adds_up_on_every_layout() {
    require_root!();
    let layouts: &[(&[&str], &str)] = &[
        (&["-t", "ext2"], ""),
        (&["-t", "ext2", "-r", "0", "-b", "1024"], ""),
        (&["-t", "ext2", "-b", "4096"], "minixdf"),
        (&["-t", "ext3", "-b", "2048"], ""),
        (&["-b", "1024"], ""),
        (&["-b", "4096"], ""),
        (&["-b", "1024", "-g", "1024", "-O", "^64bit"], "ro"),
        (&["-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "256"], ""),
        (&["-O", "sparse_super2", "-b", "1024"], ""),
        (&["-O", "sparse_super2,meta_bg,^resize_inode", "-b", "1024", "-g", "512"], ""),
        (&["-O", "^sparse_super,^flex_bg,^resize_inode", "-b", "1024"], ""),
        (&["-O", "bigalloc", "-b", "4096", "-C", "16384"], ""),
        (&["-O", "bigalloc", "-b", "1024", "-C", "4096"], ""),
        (&["-O", "bigalloc,^has_journal", "-b", "1024", "-C", "16384"], ""),
        (&["-O", "^has_journal", "-m", "0"], ""),
        (&["-O", "fast_commit"], ""),
        (&["-b", "1024"], "noload"),
        (&["-b", "1024"], "minixdf"),
        (&["-O", "bigalloc", "-b", "1024", "-C", "4096"], "minixdf"),
    ];
    for (mkfs, options) in layouts {
        let fs = Filesystem::ext4_with(UNEVEN, mkfs, options);
        agrees(fs.path(), &format!("{mkfs:?} {options}"));
    }
}

/// A filesystem in an image that has grown since, and may be read anew.
fn image(path: &Path, size: u64, mkfs: &[&str]) {
    File::create_new(path).unwrap().set_len(size).unwrap();
    let args: Vec<_> = ["-q", "-F"].iter().chain(mkfs).map(OsStr::new).collect();
    tool("mkfs.ext4", &[args.as_slice(), &[path.as_os_str()]].concat());
}

#[test]
fn a_device_that_is_larger_and_a_filesystem_made_larger() {
    require_root!();
    let home = Filesystem::tmpfs(256 * MIB);
    let path = home.path().join("image");
    image(&path, UNEVEN, &["-b", "1024"]);
    File::options().write(true).open(&path).unwrap().set_len(100 * MIB + 512).unwrap();
    let fs = Filesystem::of_image(&path, "");
    let grown = agrees(fs.path(), "larger");
    assert_eq!(part(&grown["capacity"]["uncounted"], BEYOND), i128::from(76 * MIB + 512), "{grown:#}");
    assert_eq!(grown["findings"][0]["code"], "never_grown");
    drop(fs);
    tool("resize2fs", &["-f".as_ref(), path.as_os_str()]);
    agrees(Filesystem::of_image(&path, "").path(), "made larger");
}

/// What is on another device is not on this one.
#[test]
fn an_external_journal() {
    require_root!();
    let home = Filesystem::tmpfs(64 * MIB);
    let (journal, path) = (home.path().join("journal"), home.path().join("image"));
    image(&journal, 8 * MIB, &["-O", "journal_dev", "-b", "1024"]);
    let device = LoopDevice::on(&journal);
    let option = format!("device={}", device.node().display());
    image(&path, UNEVEN, &["-b", "1024", "-J", &option]);
    let fs = Filesystem::of_image(&path, "");
    let fs = agrees(fs.path(), "external journal");
    assert_eq!(part(&fs["capacity"]["uncounted"], JOURNAL), 0, "{fs:#}");
}

/// With bigalloc the kernel believes what the superblock says of its overhead, and otherwise forgets the
/// room for more descriptors.
#[test]
fn an_overhead_that_is_not_what_it_is_said_to_be() {
    require_root!();
    let home = Filesystem::tmpfs(128 * MIB);
    for said in [|_| 0, |_| 100, |real| real + 5] {
        let path = home.path().join("image");
        image(&path, UNEVEN, &["-O", "bigalloc", "-b", "1024", "-C", "4096"]);
        let said = said(Dump::of(path.to_str().unwrap()).get("Overhead clusters"));
        let set = format!("ssv overhead_clusters {said}");
        tool("debugfs", &["-w", "-R", &set, path.to_str().unwrap()].map(OsStr::new));
        let fs = Filesystem::of_image(&path, "");
        fs::remove_file(&path).unwrap();
        fs::write(fs.path().join("file"), vec![1; 100_000]).unwrap();
        let report = report(fs.path());
        let at = only(&report);
        assert_eq!(number(&at["capacity"]["device_bytes"]), i128::from(UNEVEN));
        let uncounted = list(&at["capacity"]["uncounted"]).iter().map(|part| number(&part["bytes"]));
        let believed = uncounted.sum::<i128>();
        if said > 0 {
            assert_eq!(believed, said * 4096 + i128::from(UNEVEN % 4096), "{at:#}");
        }
        assert_eq!(row(at, "unexplained"), 0, "{said}: {at:#}");
    }
}

#[test]
fn the_reserve() {
    require_root!();
    let fs = Filesystem::ext4_with(64 * MIB, &["-b", "1024"], "resuid=65534");
    let at = agrees(fs.path(), "default");
    let device = source(&at);
    assert_eq!(at["capacity"]["reserved_uid"], 65534);
    tool("tune2fs", &["-r", "10240", &device].map(OsStr::new));
    fs::write(reserved_clusters(&device), "4096").unwrap();
    let tuned = agrees(fs.path(), "tuned");
    assert_eq!(tuned["capacity"]["reserved_blocks_bytes"], 10 * MIB);
    assert_eq!(tuned["capacity"]["reserved_clusters_bytes"], 4 * MIB);
    assert_eq!(tuned["capacity"]["reserved_bytes"], 14 * MIB);
    let text = || whyfull().arg(fs.path()).arg("-v").in_pid_namespace().run().text().replace('\n', " ");
    let words = "Set aside: 10.0 MiB for UID 65534 and 4.0 MiB for ext4 itself";
    assert!(text().contains(words) && !text().contains("of that"), "{}", text());
    // Whom it is for takes of it until less than all is left.
    fs::set_permissions(fs.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let mut writing = Command::new("sh");
    writing.arg("-c").arg("cat /dev/zero >file").current_dir(fs.path()).uid(NOBODY).gid(NOBODY);
    assert!(!writing.output().unwrap().status.success());
    tool("sync", &["-f".as_ref(), fs.path().as_os_str()]);
    let full = agrees(fs.path(), "full");
    let free = number(&full["capacity"]["free_bytes"]);
    assert_eq!(full["capacity"]["available_bytes"], 0);
    assert_eq!(number(&full["capacity"]["reserved_bytes"]), free);
    assert!((0..=i128::from(5 * MIB)).contains(&free), "{full:#}");
    assert_eq!(full["capacity"]["reserved_blocks_bytes"], 10 * MIB);
    assert!(text().contains(words) && text().contains(" of that are left."), "{}", text());
}

#[test]
fn an_ordinary_user_is_told_the_size_of_the_device() {
    require_root!();
    let fs = Filesystem::ext4(UNEVEN);
    let report = whyfull().arg(fs.path()).by_nobody().report();
    let capacity = &only(&report)["capacity"];
    assert_eq!(number(&capacity["device_bytes"]), i128::from(UNEVEN));
    for unknown in ["uncounted", "reserved_blocks_bytes", "reserved_clusters_bytes"] {
        assert_eq!(capacity[unknown], Value::Null, "{capacity:#}");
    }
    let text = whyfull().arg(fs.path()).arg("-v").by_nobody().run();
    assert!(!text.text().contains("df does not count") && !text.text().contains("Set aside"), "{text:?}");
}

#[test]
fn in_words() {
    require_root!();
    let fs = Filesystem::ext4_with(UNEVEN, &["-b", "4096"], "");
    let run = whyfull().arg(fs.path()).arg("-v").in_pid_namespace().run();
    let words = run.text().replace('\n', " ");
    assert!(words.contains("df does not count "), "{run:?}");
    assert!(
        words.contains("(journal) and 1.5 KiB (beyond the filesystem's end) of the device's 24.0 MiB."),
        "{run:?}"
    );
    let run = whyfull().arg(fs.path()).in_pid_namespace().run();
    assert!(!run.text().contains("df does not count"), "{run:?}");
}

#[test]
fn xfs_with_its_log_inside_and_outside() {
    require_root!();
    let home = Filesystem::tmpfs(512 * MIB);
    let make = |name: &str, size: u64, args: &[&str]| {
        let path = home.path().join(name);
        File::create_new(&path).unwrap().set_len(size).unwrap();
        let args: Vec<_> = ["-q"].iter().chain(args).map(OsStr::new).collect();
        tool("mkfs.xfs", &[args.as_slice(), &[path.as_os_str()]].concat());
        path
    };
    let size = 300 * MIB + 1536;
    let inside = Filesystem::of_image(&make("inside", size, &[]), "");
    let log = home.path().join("log");
    File::create_new(&log).unwrap().set_len(64 * MIB).unwrap();
    let log = LoopDevice::on(&log);
    let device = format!("logdev={}", log.node().display());
    let outside = Filesystem::of_image(&make("outside", size, &["-l", &device]), &device);
    for (fs, has_log) in [(&inside, true), (&outside, false)] {
        let report = report(fs.path());
        let capacity = &only(&report)["capacity"];
        assert_eq!(number(&capacity["device_bytes"]), i128::from(size), "{capacity:#}");
        assert_eq!(part(&capacity["uncounted"], LOG) > 0, has_log, "{capacity:#}");
        assert!(part(&capacity["uncounted"], BEYOND) >= 1536, "{capacity:#}");
        assert_eq!(number(&capacity["size_bytes"]) + sum(&capacity["uncounted"]), i128::from(size));
        assert_eq!(capacity["reserved_blocks_bytes"], Value::Null);
    }
}

#[test]
fn all_devices_of_btrfs_and_none_of_tmpfs() {
    require_root!();
    let home = Filesystem::tmpfs(512 * MIB);
    let devices = [128 * MIB, 160 * MIB].map(|size| {
        let path = home.path().join(size.to_string());
        File::create_new(&path).unwrap().set_len(size).unwrap();
        LoopDevice::on(&path)
    });
    let nodes = devices.each_ref().map(LoopDevice::node);
    tool("mkfs.btrfs", &["-q".as_ref(), "-f".as_ref(), nodes[0].as_os_str(), nodes[1].as_os_str()]);
    let at = home.beside("btrfs");
    let options = format!("device={}", nodes[1].display());
    mount(Some(nodes[0]), &at, Some("btrfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    for (path, size) in [(at.as_path(), Value::from(288 * MIB)), (home.path(), Value::Null)] {
        let report = report(path);
        let capacity = &only(&report)["capacity"];
        assert_eq!(capacity["device_bytes"], size, "{capacity:#}");
        assert_eq!(capacity["uncounted"], Value::Null, "{capacity:#}");
    }
}
