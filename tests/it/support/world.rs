// SPDX-License-Identifier: MIT OR Apache-2.0

//! A root directory of the test's own: the command sees only the mounts in it, so
//! that what it lists is known, and the machine's disks are left in peace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};

use super::MIB;
use super::filesystem::Filesystem;
use super::whyfull::Whyfull;

pub(crate) struct World {
    root: Filesystem,
}

impl World {
    /// A tmpfs with the command, the libraries that it needs, and /proc.
    pub(crate) fn new() -> Self {
        let world = Self { root: Filesystem::tmpfs(1024 * MIB) };
        let program = Path::new(env!("CARGO_BIN_EXE_whyfull"));
        fs::copy(program, world.path("whyfull")).unwrap();
        // A program without libraries makes ldd fail and prints none.
        let libraries = Command::new("ldd").arg(program).output().unwrap();
        let text = String::from_utf8_lossy(&libraries.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = world.path(library.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(library, copy).unwrap();
        }
        world.pseudo("proc", "proc");
        world
    }

    /// Where a path of this world is for the test.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    pub(crate) fn directory(&self, inside: &str) -> PathBuf {
        let path = self.path(inside);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A filesystem of the kernel's own at this place.
    pub(crate) fn pseudo(&self, fstype: &str, inside: &str) {
        let at = self.directory(inside);
        // Flags of the mount only: the filesystem itself is the machine's.
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(fstype), &at, Some(fstype), flags, None::<&str>).unwrap();
    }

    pub(crate) fn whyfull(&self) -> Whyfull {
        super::whyfull::whyfull().chroot(self.root.path())
    }
}
