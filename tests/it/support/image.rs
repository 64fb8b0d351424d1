// SPDX-License-Identifier: MIT OR Apache-2.0

//! A filesystem in an image that can be damaged before it is mounted.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::filesystem::Filesystem;
use super::{MIB, tool};

/// An image with a directory `d` and a file of 100,000 bytes in it, in a directory of its own.
pub(crate) struct Image {
    /// Keeps the image there.
    _home: Option<Filesystem>,
    pub(crate) path: PathBuf,
}

impl Image {
    /// Made by `mkfs.ext4` with these options.
    pub(crate) fn new(mkfs: &[&str]) -> Self {
        let image = Self::empty("mkfs.ext4", &[&["-q", "-F"], mkfs].concat(), 24 * MIB);
        image.add("d");
        image
    }

    /// A further such directory.
    pub(crate) fn add(&self, name: &str) {
        let file = self.path.with_file_name("file");
        fs::write(&file, vec![7; 100_000]).unwrap();
        self.debugfs(&format!("mkdir {name}"));
        self.debugfs(&format!("write {} {name}/file", file.to_str().unwrap()));
    }

    /// With nothing in it.
    pub(crate) fn empty(mkfs: &str, args: &[&str], size: u64) -> Self {
        let home = Filesystem::tmpfs(size + 16 * MIB);
        let path = home.path().join("image");
        File::create_new(&path).unwrap().set_len(size).unwrap();
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        tool(mkfs, &[args.as_slice(), &[path.as_os_str()]].concat());
        Self { _home: Some(home), path }
    }

    /// One that somebody else has made, such as a device.
    pub(crate) fn at(path: &Path) -> Self {
        Self { _home: None, path: path.to_owned() }
    }

    pub(crate) fn debugfs(&self, request: &str) {
        tool("debugfs", &["-w", "-R", request, self.path.to_str().unwrap()].map(OsStr::new));
    }

    /// What `debugfs` prints.
    pub(crate) fn asked(&self, request: &str) -> String {
        let printed = Command::new("debugfs").args(["-R", request]).arg(&self.path).output().unwrap();
        String::from_utf8(printed.stdout).unwrap()
    }

    /// Where the first block of `name` lies.
    pub(crate) fn block_of(&self, name: &str) -> u64 {
        self.asked(&format!("blocks {name}")).split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Where the inode of `name` lies, in bytes, where blocks are of that size.
    pub(crate) fn inode_of(&self, name: &str, block_size: u64) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(20);
        let place = loop {
            let printed = self.asked(&format!("imap {name}"));
            if let Some((_, place)) = printed.split_once("located at block ") {
                break place.to_owned();
            }
            // Another run of whyfull may still look at a mount of the image: then the kernel writes it out later.
            assert!(Instant::now() < deadline, "{name}: {printed}");
            sleep(Duration::from_millis(50));
        };
        let (block, offset) = place.split_once(", offset 0x").unwrap();
        block.parse::<u64>().unwrap() * block_size + u64::from_str_radix(offset.trim(), 16).unwrap()
    }

    /// Changes these bytes.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        File::options().write(true).open(&self.path).unwrap().write_all_at(bytes, at).unwrap();
    }

    /// Changes one bit.
    pub(crate) fn flip(&self, at: u64, bit: u32) {
        let mut byte = [0];
        let file = File::options().read(true).write(true).open(&self.path).unwrap();
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
    }

    /// Changes these bytes wherever they are.
    pub(crate) fn flip_wherever(&self, bytes: &[u8]) {
        let mut places = vec![];
        let (file, mut piece, zeros) = (File::open(&self.path).unwrap(), vec![0; 1 << 16], vec![0; 1 << 16]);
        for start in (0..file.metadata().unwrap().len()).step_by(piece.len()) {
            file.read_exact_at(&mut piece, start).unwrap();
            if piece != zeros {
                let found = piece.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes);
                places.extend(found.map(|(place, _)| start + place as u64));
            }
        }
        assert!(!places.is_empty());
        for place in places {
            self.flip(place, 0);
        }
    }

    pub(crate) fn mounted(&self) -> Filesystem {
        self.mounted_with("")
    }

    pub(crate) fn mounted_with(&self, options: &str) -> Filesystem {
        Filesystem::of_image(&self.path, options)
    }

    /// Where it is mounted to be filled.
    pub(crate) fn filled(&self, fill: impl FnOnce(&Path)) {
        let fs = self.mounted();
        fill(fs.path());
    }
}
