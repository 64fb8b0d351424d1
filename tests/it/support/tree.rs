// SPDX-License-Identifier: MIT OR Apache-2.0

//! Trees with everything in them that a walk can stumble over, the same for the
//! same seed. Made and removed through directory descriptors, since most of it is
//! out of reach for paths.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mkdirat, mknod};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Small numbers that look random and never change.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Every kind of entry, a few hundred of them, without the extremes of depth.
pub(crate) fn nasty(root: &Path, seed: u64) {
    let mut random = Random::new(seed);
    fs::create_dir_all(root).unwrap();
    ordinary(&root.join("ordinary"), &mut random);
    hard_links(&root.join("links"));
    special(&root.join("special"));
    names(&root.join("names"), &mut random);
    unreadable(&root.join("unreadable"));
    attributes(&root.join("attributes"));
}

fn write(path: &Path, length: u64) {
    let length = usize::try_from(length).unwrap();
    fs::write(path, vec![b'x'; length]).unwrap();
}

/// Files of all small sizes, empty directories, sparse and preallocated files.
pub(crate) fn ordinary(root: &Path, random: &mut Random) {
    fs::create_dir(root).unwrap();
    let mut directories = vec![root.to_owned()];
    for index in 0..60 {
        let parent = random.below(directories.len() as u64);
        let parent = &directories[usize::try_from(parent).unwrap()];
        let path = parent.join(format!("entry{index}"));
        match random.below(6) {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                directories.push(path);
            }
            2 => {
                let sparse = File::create_new(&path).unwrap();
                sparse.set_len(1 << 30).unwrap();
                sparse.write_all_at(b"island", random.below(1 << 29)).unwrap();
            }
            _ => write(&path, random.below(40_000)),
        }
    }
}

/// Several names of one file: side by side, above, below, and across.
pub(crate) fn hard_links(root: &Path) {
    for side in ["left/deep/deeper", "right"] {
        fs::create_dir_all(root.join(side)).unwrap();
    }
    write(&root.join("file"), 50_000);
    for (index, side) in ["left", "left/deep", "left/deep/deeper", "right", ""].iter().enumerate() {
        for copy in 0..3 {
            let name = root.join(side).join(format!("same{index}.{copy}"));
            fs::hard_link(root.join("file"), name).unwrap();
        }
    }
    // Links of a symlink and of a fifo are links all the same.
    symlink("x".repeat(200), root.join("symlink")).unwrap();
    fs::hard_link(root.join("symlink"), root.join("right/symlink")).unwrap();
    mknod(&root.join("fifo"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o644), 0).unwrap();
    fs::hard_link(root.join("fifo"), root.join("left/fifo")).unwrap();
}

/// Symlinks to everywhere, fifos, sockets, devices that are only names.
pub(crate) fn special(root: &Path) {
    fs::create_dir(root).unwrap();
    // A block of its own, and within what blocks of 1 KiB allow.
    let long = "long/".repeat(200);
    for (name, target) in
        [("dangling", "nowhere"), ("self", "self"), ("up", ".."), ("away", "/"), ("long", long.as_str())]
    {
        symlink(target, root.join(name)).unwrap();
    }
    let mode = Mode::from_bits_truncate(0o644);
    for (name, kind) in [("fifo", SFlag::S_IFIFO), ("socket", SFlag::S_IFSOCK)] {
        mknod(&root.join(name), kind, mode, 0).unwrap();
    }
}

/// Names of any bytes, as long as a name can be.
pub(crate) fn names(root: &Path, random: &mut Random) {
    fs::create_dir(root).unwrap();
    let mut all: Vec<Vec<u8>> = [
        b"new\nline".as_slice(),
        b"tab\tand\\backslash",
        b"\x1b[31mred\x1b[0m",
        b"\xff\xfe no utf-8",
        b"half \xe2\x82",
        "right-to-left \u{202e}gpj.exe".as_bytes(),
        "combining e\u{301}, wide \u{6f22}\u{5b57}".as_bytes(),
        b" ",
        b"...",
        b"-rf",
        b"gone (deleted)",
        b"quote\"'`$(x)",
        &[b'n'; 255],
        &[0xff; 255],
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    for index in 0..40_u8 {
        let mut name = vec![index | 0x80];
        for _ in 0..random.below(60) {
            let byte = u8::try_from(1 + random.below(255)).unwrap();
            name.push(if byte == b'/' { b'_' } else { byte });
        }
        all.push(name);
    }
    for (index, name) in all.iter().enumerate() {
        let path = root.join(OsStr::from_bytes(name));
        if index % 4 == 3 {
            fs::create_dir(&path).unwrap();
            write(&path.join(OsStr::from_bytes(name)), random.below(9_000));
        } else {
            write(&path, random.below(9_000));
        }
    }
}

/// Directories that an ordinary user cannot list, enter, or either.
pub(crate) fn unreadable(root: &Path) {
    for mode in [0o000, 0o311, 0o444, 0o600, 0o700] {
        let path = root.join(format!("mode{mode:03o}"));
        fs::create_dir_all(path.join("inside")).unwrap();
        write(&path.join("file"), 20_000);
        write(&path.join("inside/file"), 30_000);
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let secret = root.join("secret");
    write(&secret, 10_000);
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o000)).unwrap();
}

/// Extended attributes, one too big for the inode: a block of its own on ext4.
pub(crate) fn attributes(root: &Path) {
    fs::create_dir(root).unwrap();
    for length in [1, 100, 900] {
        let path = root.join(format!("attribute{length}"));
        write(&path, 100);
        set_attribute(&path, length);
    }
    set_attribute(root, 900);
}

pub(crate) fn set_attribute(path: &Path, length: usize) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = c"user.whyfull".as_ptr();
    let value = vec![b'v'; length];
    // SAFETY: both strings end with NUL, `value` has `length` bytes.
    let done = unsafe { libc::setxattr(path.as_ptr(), name, value.as_ptr().cast(), length, 0) };
    match nix::errno::Errno::result(done) {
        // Some filesystems have none, others no room for one of this size.
        Ok(_) | Err(nix::errno::Errno::ENOTSUP | nix::errno::Errno::ENOSPC) => {}
        Err(error) => panic!("setxattr: {error}"),
    }
}

/// So many empty files in one directory.
pub(crate) fn flat(root: &Path, entries: u32) {
    fs::create_dir(root).unwrap();
    let directory = open_directory(AT_FDCWD, root.as_os_str());
    for index in 0..entries {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let name = format!("entry-{index:08}");
        let mode = Mode::from_bits_truncate(0o644);
        let file = openat(&directory, name.as_str(), flags, mode).unwrap();
        if index % 1000 == 0 {
            File::from(file).write_all(b"not empty").unwrap();
        }
    }
}

/// A chain of directories below `root`, with a file in every tenth and the last.
pub(crate) fn chain(root: &Path, name: &str, levels: u32) {
    fs::create_dir(root).unwrap();
    let mut here = open_directory(AT_FDCWD, root.as_os_str());
    for level in 1..=levels {
        mkdirat(&here, name, Mode::from_bits_truncate(0o755)).unwrap();
        here = open_directory(&here, OsStr::new(name));
        if level % 10 == 0 || level == levels {
            let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let file = openat(&here, "file", flags, Mode::from_bits_truncate(0o644));
            File::from(file.unwrap()).write_all(b"deep").unwrap();
        }
    }
}

/// A chain that has a second directory on every level, with something in it.
pub(crate) fn comb(root: &Path, levels: u32) {
    fs::create_dir(root).unwrap();
    let mut here = open_directory(AT_FDCWD, root.as_os_str());
    for level in 0..levels {
        // The numbers of inodes decide which one the walk reads first.
        for name in if level % 2 == 0 { ["on", "aside"] } else { ["aside", "on"] } {
            mkdirat(&here, name, Mode::from_bits_truncate(0o755)).unwrap();
        }
        mkdirat(&here, "aside/below", Mode::from_bits_truncate(0o755)).unwrap();
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(&here, "aside/file", flags, Mode::from_bits_truncate(0o644));
        File::from(file.unwrap()).write_all(b"aside").unwrap();
        here = open_directory(&here, OsStr::new("on"));
    }
}

fn open_directory(parent: impl AsFd, name: &OsStr) -> OwnedFd {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).unwrap()
}

/// Removes a tree of any depth with three descriptors: whatever directory turns up
/// is first moved to the top.
pub(crate) fn remove(root: &Path) {
    let top = open_directory(AT_FDCWD, root.as_os_str());
    let mut waiting: Vec<OsString> = vec![OsString::from(".")];
    let mut moved = 0_u64;
    while let Some(name) = waiting.pop() {
        let here = open_directory(&top, &name);
        for entry in entries(&here) {
            let stat = fstatat(&here, entry.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).unwrap();
            if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
                unlinkat(&here, entry.as_os_str(), UnlinkatFlags::NoRemoveDir).unwrap();
                continue;
            }
            // Its owner must be able to list it, and to write its "..".
            let mode = Mode::from_bits_truncate(0o700);
            fchmodat(&here, entry.as_os_str(), mode, FchmodatFlags::FollowSymlink).unwrap();
            moved += 1;
            let name = OsString::from(format!(".removing-{moved}"));
            renameat(&here, entry.as_os_str(), &top, name.as_os_str()).unwrap();
            waiting.push(name);
        }
        if name != "." {
            unlinkat(&top, name.as_os_str(), UnlinkatFlags::RemoveDir).unwrap();
        }
    }
    fs::remove_dir(root).unwrap();
}

fn entries(directory: &OwnedFd) -> Vec<OsString> {
    let listing = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())).unwrap();
    listing.map(|entry| entry.unwrap().file_name()).collect()
}
