// SPDX-License-Identifier: MIT OR Apache-2.0

//! Filesystems that refuse to store something though they have bytes left, each for a reason of its
//! own, and what is said of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::statvfs::statvfs;
use serde_json::Value;

use crate::support::filesystem::{Filesystem, mount_tmpfs};
use crate::support::loop_device::LoopDevice;
use crate::support::report::{list, only, report};
use crate::support::whyfull::whyfull;
use crate::support::{MIB, NOBODY, temp_dir, tool};

/// Code, severity and message of each finding.
fn findings(path: &Path) -> Vec<(String, String, String)> {
    let report = report(path);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = list(&only(&report)["findings"]).iter();
    found.map(|f| (text(&f["code"]), text(&f["severity"]), text(&f["message"]))).collect()
}

/// The message of the only finding, which has that code and severity.
fn message(path: &Path, code: &str, severity: &str) -> String {
    let found = findings(path);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].0.as_str(), found[0].1.as_str()), (code, severity), "{found:#?}");
    found[0].2.clone()
}

fn assert_has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// What the device is called.
fn source(path: &Path) -> String {
    only(&report(path))["source"].as_str().unwrap().to_owned()
}

/// Writes until there is no space left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
}

/// An image of that size, made by `mkfs` with its arguments.
fn image(path: &Path, size: u64, mkfs: &str, args: &[&str]) {
    File::create_new(path).unwrap().set_len(size).unwrap();
    let args: Vec<_> = args.iter().map(OsStr::new).collect();
    tool(mkfs, &[args.as_slice(), &[path.as_os_str()]].concat());
}

#[test]
fn healthy_filesystems_are_silent() {
    require_root!();
    let all = Filesystem::all();
    for fs in &all {
        fs::write(fs.path().join("file"), vec![1; 1 << 20]).unwrap();
        assert_eq!(findings(fs.path()), [], "{}", fs.path().display());
    }
}

#[test]
fn out_of_inodes() {
    require_root!();
    let disk = Filesystem::ext4_with(16 * MIB, &["-N", "64"], "");
    let memory = Filesystem::tmpfs(16 * MIB);
    let options = Some("nr_inodes=64");
    mount(None::<&str>, memory.path(), None::<&str>, MsFlags::MS_REMOUNT, options).unwrap();
    for (fs, advice) in [(&disk, "delete files"), (&memory, "`mount -o remount,nr_inodes=128 ")] {
        let mut files = (0..).map(|number| File::create(fs.path().join(format!("{number}"))));
        let full = files.find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        let message = message(fs.path(), "inodes_exhausted", "critical");
        assert_has(&message, &["out of inodes, not of space: 0 of ", advice]);
        let run = whyfull().arg(fs.path()).run();
        let first = format!("{}: out of inodes, not of space", fs.path().display());
        assert!(run.text().starts_with(&first), "{run:?}");
    }
}

#[test]
fn only_the_reserve_is_left() {
    require_root!();
    let fs = Filesystem::ext4_with(64 * MIB, &["-m", "20"], "");
    fs::set_permissions(fs.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let mut writing = Command::new("sh");
    writing.arg("-c").arg("cat /dev/zero >file").current_dir(fs.path()).uid(NOBODY).gid(NOBODY);
    assert!(!writing.output().unwrap().status.success());
    let found = findings(fs.path());
    let message = &found[0].2;
    assert_eq!((found.len(), found[0].0.as_str()), (1, "only_reserve_left"), "{found:#?}");
    let source = source(fs.path());
    assert_has(message, &["that are reserved for root are left", &format!("`tune2fs -m 1 {source}`")]);
    tool("tune2fs", &["-m", "1", &source].map(OsStr::new));
    assert_eq!(findings(fs.path()), []);
}

#[test]
fn the_reserve_may_be_another_users() {
    require_root!();
    for (options, uid, gid, words) in [
        ("resuid=65534", Some(65534), None, "reserved for UID 65534)"),
        ("resgid=7", None, Some(7), "reserved for root and GID 7)"),
        ("resuid=7,resgid=8", Some(7), Some(8), "reserved for UID 7 and GID 8)"),
        ("", None, None, "reserved for root)"),
    ] {
        let fs = Filesystem::ext4_with(16 * MIB, &[], options);
        let report = report(fs.path());
        let capacity = &only(&report)["capacity"];
        assert_eq!(capacity["reserved_uid"].as_u64(), uid, "{capacity:#}");
        assert_eq!(capacity["reserved_gid"].as_u64(), gid, "{capacity:#}");
        let run = whyfull().arg(fs.path()).run();
        assert!(run.text().contains(words), "{run:?}");
    }
}

fn shows_read_only(source: &str) -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(source)).unwrap();
    mount.ends_with(",emergency_ro") || mount.contains(&format!(" {source} ro,"))
}

#[test]
fn errors_were_found() {
    require_root!();
    let states = [
        ("errors=continue", "errors_noted", "warning", "an error was found in it since its last repair"),
        ("errors=remount-ro", "read_only_after_errors", "critical", "read-only after an error (1 noted"),
    ];
    for (option, code, severity, words) in states {
        let fs = Filesystem::ext4_with(16 * MIB, &[], option);
        let source = source(fs.path());
        let name = Path::new(&source).file_name().unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        fs::write(trigger, "1").unwrap();
        if severity == "critical" && !shows_read_only(&source) {
            eprintln!("not tested: this kernel does not show that it refuses to write");
            continue;
        }
        let told = message(fs.path(), code, severity);
        assert_has(&told, &[words, &format!("unmount it and run `e2fsck -f {source}`")]);
        // Everybody can know.
        let report = whyfull().arg(fs.path()).by_nobody().report();
        assert_eq!(only(&report)["findings"][0]["code"], code);
    }
}

#[test]
fn a_directory_may_not_grow() {
    require_root!();
    let fs = Filesystem::ext4_with(16 * MIB, &["-b", "1024"], "max_dir_size_kb=16");
    let full = fs.path().join("sub/full");
    fs::create_dir_all(&full).unwrap();
    fs::write(fs.path().join("file"), "").unwrap();
    let long = "x".repeat(200);
    let add = |number| fs::hard_link(fs.path().join("file"), full.join(format!("{number}{long}")));
    let refused = (0..1000).map(add).find_map(Result::err).unwrap();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    let told = message(fs.path(), "directory_at_limit", "critical");
    assert_has(&told, &[full.to_str().unwrap(), "take up 16.0 KiB and max_dir_size_kb allows 16.0 KiB"]);
    let remedy = ["-o", "remount,max_dir_size_kb=0"].map(OsStr::new);
    tool("mount", &[remedy.as_slice(), &[fs.path().as_os_str()]].concat());
    assert_eq!(findings(fs.path()), []);
    add(1000).unwrap();
}

#[test]
fn the_index_of_a_directory_is_full() {
    require_root!();
    let fs = Filesystem::ext4_with(64 * MIB, &["-b", "1024"], "");
    let full = fs.path().join("full");
    fs::create_dir(&full).unwrap();
    let mut file = fs.path().join("file");
    let long = "x".repeat(240);
    let refused = (0..).find_map(|number| {
        if number % 60_000 == 0 {
            // An inode can have 65000 names.
            file = fs.path().join(format!("file{number}"));
            fs::write(&file, "").unwrap();
        }
        fs::hard_link(&file, full.join(format!("{number:08}{long}"))).err()
    });
    assert_eq!(refused.unwrap().kind(), ErrorKind::StorageFull);
    let told = message(fs.path(), "directory_index_full", "warning");
    assert_has(&told, &[full.to_str().unwrap(), "tune2fs -O large_dir /dev/loop"]);
    // The index is known from the device, which is root's.
    let report = whyfull().arg(fs.path()).by_nobody().report();
    assert_eq!(only(&report)["findings"], Value::Array(vec![]));
}

#[test]
fn a_filesystem_that_was_never_grown() {
    require_root!();
    let dir = temp_dir();
    let made: [(&str, u64, &[&str], &str); 3] = [
        ("mkfs.ext4", 64 * MIB, &["-q", "-F"], "`resize2fs /dev/loop"),
        ("mkfs.xfs", 300 * MIB, &["-q", "-f"], "`xfs_growfs "),
        ("mkfs.btrfs", 128 * MIB, &["-q", "-f"], "`btrfs filesystem resize 1:max "),
    ];
    for (mkfs, size, args, command) in made {
        let path = dir.path().join(mkfs);
        image(&path, size, mkfs, args);
        File::options().write(true).open(&path).unwrap().set_len(size + 12 * MIB).unwrap();
        {
            let fs = Filesystem::of_image(&path, "");
            assert_eq!(findings(fs.path()), [], "{mkfs}: rounded down");
        }
        File::options().write(true).open(&path).unwrap().set_len(size + 64 * MIB).unwrap();
        let fs = Filesystem::of_image(&path, "");
        let told = message(fs.path(), "never_grown", "warning");
        let sizes = format!("takes up only {}.0 MiB of /dev/loop", size / MIB);
        let whole = format!("which has {}.0 MiB", size / MIB + 64);
        assert_has(&told, &[&sizes, &whole, command]);
    }
}

#[test]
fn an_image_that_cannot_be_filled() {
    require_root!();
    let host = Filesystem::tmpfs(16 * MIB);
    let path = host.path().join("image");
    image(&path, 64 * MIB, "mkfs.ext4", &["-q", "-F", "-O", "^has_journal"]);
    let fs = Filesystem::of_image(&path, "");
    let told = message(fs.path(), "image_without_space", "warning");
    assert_has(&told, &[path.to_str().unwrap(), "only 15.", "MiB are available where that file is stored"]);
    fill(&host.path().join("filler"));
    let told = message(fs.path(), "image_without_space", "critical");
    assert_has(&told, &["but only 0 B are available where that file is stored"]);

    // The name leads to another file, as it may in another mount namespace.
    mount_tmpfs(host.path(), 2 * MIB, MsFlags::empty());
    File::create_new(&path).unwrap().set_len(MIB).unwrap();
    assert_eq!(findings(fs.path()), []);
    umount(host.path()).unwrap();
    assert_eq!(findings(fs.path()).len(), 1);
    fs::remove_file(&path).unwrap();
    assert_eq!(findings(fs.path()), []);
}

#[test]
fn an_image_on_a_filesystem_with_room() {
    require_root!();
    let host = Filesystem::tmpfs(128 * MIB);
    let path = host.path().join("image");
    image(&path, 64 * MIB, "mkfs.ext4", &["-q", "-F"]);
    let fs = Filesystem::of_image(&path, "");
    assert_eq!(findings(fs.path()), []);
}

#[test]
fn memory_is_full() {
    require_root!();
    let fs = Filesystem::tmpfs(4 * MIB);
    fill(&fs.path().join("file"));
    let told = message(fs.path(), "memory_limit_reached", "critical");
    let command = format!("`mount -o remount,size=6M {}`", fs.path().display());
    assert_has(&told, &["0 B of the 4.0 MiB that it may hold are left", &command]);
    let options = ["-o", "remount,size=6M"].map(OsStr::new);
    tool("mount", &[options.as_slice(), &[fs.path().as_os_str()]].concat());
    assert_eq!(findings(fs.path()), []);
}

#[test]
fn a_subvolume_has_used_up_its_quota() {
    require_root!();
    let fs = Filesystem::btrfs();
    let subvolume = fs.path().join("sub");
    let (sub, whole) = (subvolume.as_os_str(), fs.path().as_os_str());
    tool("btrfs", &["quota", "enable"].map(OsStr::new).iter().copied().chain([whole]).collect::<Vec<_>>());
    tool("btrfs", &["subvolume", "create"].map(OsStr::new).iter().copied().chain([sub]).collect::<Vec<_>>());
    let limit = ["qgroup", "limit", "8M"].map(OsStr::new);
    tool("btrfs", &[limit.as_slice(), &[sub]].concat());
    assert_eq!(findings(fs.path()), []);
    fill(&subvolume.join("file"));
    tool("sync", &[OsStr::new("-f"), whole]);
    let told = message(fs.path(), "quota_reached", "critical");
    assert_has(
        &told,
        &["the quota of qgroup 0/256 is used up", "of 8.0 MiB", "`btrfs qgroup limit SIZE 0/256 "],
    );
}

/// Commits that wait for no disk, and a cleaner of deleted subvolumes that looks every second.
const QUICK: &str = "nobarrier,commit=1";

/// Allocates all there is for data, and leaves a little in each part of it, so that none is given back.
fn allocate_all(fs: &Filesystem) {
    let name = |number: usize| fs.path().join(format!("data{number}"));
    let count = (0..10_000).find(|&number| fs::write(name(number), vec![1; 256 << 10]).is_err()).unwrap();
    for number in (0..=count).filter(|number| number % 8 > 0) {
        fs::remove_file(name(number)).unwrap();
    }
    sync(fs);
}

/// Links whose targets lie in metadata: as many as fit, or up to this number.
fn links(fs: &Filesystem, most: usize) -> std::io::Result<()> {
    let target = "x".repeat(2000);
    (0..most).try_for_each(|number| match symlink(&target, fs.path().join(format!("link{number}"))) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    })
}

fn sync(fs: &Filesystem) {
    nix::unistd::syncfs(File::open(fs.path()).unwrap()).unwrap();
}

/// The commands in a message.
fn commands(message: &str) -> Vec<Vec<&str>> {
    message.split('`').skip(1).step_by(2).map(|command| command.split(' ').collect()).collect()
}

fn carry_out(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().unwrap().status.success()
}

#[test]
fn metadata_is_nearly_full_and_its_data_moved_together() {
    require_root!();
    let fs = Filesystem::btrfs_with(QUICK);
    allocate_all(&fs);
    assert_eq!(findings(fs.path()), [], "metadata has room");
    let scarce = (1..100).find(|batch| {
        links(&fs, batch * 500).unwrap();
        sync(&fs);
        !findings(fs.path()).is_empty()
    });
    assert!(scarce > Some(1));
    let told = message(fs.path(), "metadata_full", "warning");
    assert_has(&told, &["its metadata can grow by only 1", "MiB that are set aside for data are unused: "]);
    let [balance] = commands(&told).try_into().unwrap();
    assert!(carry_out(&balance), "{balance:?}");
    assert_eq!(findings(fs.path()), []);
}

/// Even what would help takes metadata, which another device lends.
#[test]
fn metadata_is_full() {
    require_root!();
    let fs = Filesystem::btrfs_with(QUICK);
    allocate_all(&fs);
    assert_eq!(links(&fs, usize::MAX).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(links(&fs, usize::MAX).unwrap_err().kind(), ErrorKind::StorageFull, "for good");
    let room = statvfs(fs.path()).unwrap();
    assert!(room.blocks_free() * room.fragment_size() > 16 * MIB, "{room:?}");
    let told = message(fs.path(), "metadata_full", "critical");
    assert_has(&told, &["its metadata is full, and it may refuse to store anything, though ", "-dusage=0"]);
    let report = whyfull().arg(fs.path()).by_nobody().report();
    assert_eq!(only(&report)["findings"][0]["message"], *told, "everybody can know");

    let [balance, mut add, mut remove] = commands(&told).try_into().unwrap();
    assert!(!carry_out(&balance), "{balance:?}");
    let disk = fs.beside("disk").join("image");
    File::create_new(&disk).unwrap().set_len(64 * MIB).unwrap();
    let device = LoopDevice::on(&disk);
    for command in [&mut add, &mut remove] {
        assert_eq!(command[3], "DEVICE");
        command[3] = device.node().to_str().unwrap();
    }
    for command in [add, balance, remove] {
        assert!(carry_out(&command), "{command:?}");
    }
    assert_eq!(findings(fs.path()), []);
    links(&fs, 10_000).unwrap();
}

#[test]
fn a_snapshot_keeps_what_is_deleted() {
    require_root!();
    let fs = Filesystem::btrfs_with(QUICK);
    let (path, snapshot) = (fs.path(), fs.path().join("a snapshot"));
    fs::write(path.join("large"), vec![1; 16 << 20]).unwrap();
    let words = ["subvolume", "snapshot", "-r"].map(OsStr::new);
    tool("btrfs", &[words.as_slice(), &[path.as_os_str(), snapshot.as_os_str()]].concat());
    assert_eq!(findings(path), [], "there is room");
    fill(&path.join("filler"));
    fs::remove_file(path.join("large")).unwrap();
    sync(&fs);
    let told = message(path, "snapshots_kept", "warning");
    let [list_all, mut delete] = commands(&told).try_into().unwrap();
    let listed = Command::new(list_all[0]).args(&list_all[1..]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.trim_end().ends_with(" path a snapshot") && listed.lines().count() == 1, "{listed}");
    let own = fs.beside("own");
    let source = source(path);
    mount(Some(source.as_str()), &own, Some("btrfs"), MsFlags::empty(), Some("subvol=a snapshot")).unwrap();
    assert_eq!(findings(&own), [], "is mounted itself");
    umount(&own).unwrap();
    let nobodys = whyfull().arg(path).by_nobody().report();
    assert_eq!(only(&nobodys)["findings"], Value::Array(vec![]), "only root can know");

    assert_eq!(delete.pop(), Some("PATH"));
    delete.push(snapshot.to_str().unwrap());
    assert!(carry_out(&delete), "{delete:?}");
    tool("btrfs", &[["subvolume", "sync"].map(OsStr::new).as_slice(), &[path.as_os_str()]].concat());
    sync(&fs);
    let room = statvfs(path).unwrap();
    assert!(room.blocks_available() * room.fragment_size() >= 16 * MIB, "{room:?}");
    assert_eq!(findings(path), []);
}

/// Runs where the kernel has quotas for ext4 (`CONFIG_QFMT_V2`).
#[test]
fn users_and_groups_have_used_up_their_quotas() {
    require_root!();
    let dir = temp_dir();
    let path = dir.path().join("image");
    let types = "quotatype=usrquota:grpquota:prjquota";
    image(&path, 64 * MIB, "mkfs.ext4", &["-q", "-F", "-O", "quota,project", "-E", types]);
    let probe = dir.path().join("probe");
    fs::create_dir(&probe).unwrap();
    crate::support::filesystem::own_mount_namespace();
    let mounted = Command::new("mount").args(["-o", "loop"]).args([&path, &probe]).output().unwrap();
    if !mounted.status.success() {
        eprintln!("not tested: this kernel has no quotas");
        return;
    }
    tool("umount", &[probe.as_os_str()]);
    let fs = Filesystem::of_image(&path, "usrquota,grpquota,prjquota");
    fs::set_permissions(fs.path(), PermissionsExt::from_mode(0o777)).unwrap();
    for quota in ["-u 65534 0 4096 0 0", "-g 12345 0 0 0 1", "-P 77 1024 8192 0 0"] {
        let words = quota.split(' ').map(OsStr::new);
        tool("setquota", &words.chain([fs.path().as_os_str()]).collect::<Vec<_>>());
    }
    assert_eq!(findings(fs.path()), []);
    let theirs = fs.path().join("theirs");
    fs::write(&theirs, vec![1; usize::try_from(4 * MIB).unwrap()]).unwrap();
    std::os::unix::fs::chown(&theirs, Some(NOBODY), None).unwrap();
    let nobodys = "the quota of user nobody is used up, 4.0 MiB of 4.0 MiB: `edquota -u nobody` changes it";
    assert_eq!(message(fs.path(), "quota_reached", "critical"), nobodys);
    let own = whyfull().arg(fs.path()).by_nobody().report();
    assert_eq!(only(&own)["findings"][0]["message"], nobodys, "one's own");

    std::os::unix::fs::chown(&theirs, Some(0), Some(12345)).unwrap();
    assert_has(
        &message(fs.path(), "quota_reached", "critical"),
        &["the quota of group 12345 is used up, 1 of 1 files: `edquota -g 12345`"],
    );
    let own = whyfull().arg(fs.path()).by_nobody().report();
    assert_eq!(list(&only(&own)["findings"]).len(), 0, "another's");

    std::os::unix::fs::chown(&theirs, Some(0), Some(0)).unwrap();
    tool(
        "chattr",
        &["-p", "77"].map(OsStr::new).iter().copied().chain([theirs.as_os_str()]).collect::<Vec<_>>(),
    );
    assert_has(
        &message(fs.path(), "quota_reached", "warning"),
        &["the quota of project 77 is exceeded, which is allowed for a time only, 4.0 MiB of 1.0 MiB"],
    );
}
