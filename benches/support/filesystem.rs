// SPDX-License-Identifier: MIT OR Apache-2.0

//! A fresh ext4 for one benchmark, on a loop device over a sparse image.
//!
//! whyfull always explains a whole filesystem, so the trees need one of their
//! own. It is mounted in a mount namespace that only the benchmark and its
//! children see, with a loop device that clears itself: whatever ends the
//! benchmark, even SIGKILL, the kernel takes mount, device and image away.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The same on every machine, so that the trees are too.
const HASH_SEED: &str = "hash_seed=6c7fc1e4-1f3b-4d0e-9a55-0c2b7d9e8f10";

/// A mounted filesystem; dropping it unmounts.
pub(crate) struct Filesystem {
    mountpoint: PathBuf,
    // Removes the mount point's directory.
    _home: TempDir,
}

/// Gives this process mounts of its own. Before any thread is started: a mount
/// namespace belongs to the thread that asks for it.
pub(crate) fn enter_private_mounts() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        let how = "sudo -E env \"PATH=$PATH\" cargo bench ...";
        return Err(format!("needs root, to mount a filesystem of its own: {how}").into());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("no private mounts: {e}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| format!("mounts cannot be made private: {e}"))?;
    Ok(())
}

impl Filesystem {
    /// Makes an ext4 of `bytes` with room for `inodes` files. The image loses
    /// its name as soon as it is mounted, unless `keep` says where it is to
    /// stay; if it is there already, it is mounted as it is.
    pub(crate) fn new(keep: Option<&Path>, bytes: u64, inodes: u64) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("whyfull-bench-").tempdir()?;
        let mountpoint = home.path().join("mnt");
        fs::create_dir(&mountpoint)?;
        let temporary = home.path().join("image");
        let image = keep.unwrap_or(&temporary);
        if !image.exists() {
            make(image, bytes, inodes)?;
        }
        mount_loop(image, &mountpoint)?;
        if keep.is_none() {
            fs::remove_file(image)?;
        }
        Ok(Self { mountpoint, _home: home })
    }

    /// The root of the filesystem.
    pub(crate) fn root(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        // Lazily: a contender that was just interrupted may still be inside.
        if let Err(error) = umount2(&self.mountpoint, MntFlags::MNT_DETACH) {
            eprintln!("{}: not unmounted: {error}", self.mountpoint.display());
        }
    }
}

fn make(image: &Path, bytes: u64, inodes: u64) -> Result<()> {
    File::create_new(image)?.set_len(bytes)?;
    let inodes = inodes.to_string();
    let mut mkfs = Command::new("mkfs.ext4");
    // The seed decides the order of names and how many blocks a directory has.
    mkfs.args(["-q", "-F", "-N", &inodes, "-E", HASH_SEED]).arg(image);
    run(&mut mkfs)?;
    Ok(())
}

fn mount_loop(image: &Path, mountpoint: &Path) -> Result<()> {
    // Direct I/O, or the image's own page cache would keep cold runs warm.
    let setup = ["--find", "--show", "--direct-io=on"];
    let device = run(Command::new("losetup").args(setup).arg(image))?;
    // Without noinit_itable the kernel writes inode tables during the runs.
    let flags = MsFlags::MS_NOATIME;
    let mounted = mount(Some(device.as_str()), mountpoint, Some("ext4"), flags, Some("noinit_itable"));
    // On a device in use this asks the kernel to clear it with the unmount.
    run(Command::new("losetup").args(["--detach", &device]))?;
    mounted.map_err(|e| format!("{device}: not mounted: {e}"))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}", said.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
