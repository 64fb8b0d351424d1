// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every way to hold a file without a name that is known, each on a filesystem of its choice.

use std::any::Any;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::filesystem::{Filesystem, bind, mount_tmpfs};
use super::holder::Holder;
use super::kernel::{Namespace, Probe, clone_tree, file, interpreters};
use super::loop_device::LoopDevice;
use super::overlay::Overlay;
use super::{KIB, MIB, tool};

/// An inode without a name, held until this goes out of scope.
pub(crate) struct Held {
    pub(crate) inode: u64,
    /// Allocated bytes.
    pub(crate) bytes: u64,
    /// `major:minor`
    pub(crate) device: String,
    _by: Box<dyn Any>,
}

impl Held {
    /// As one of the situations of `tests/holder` has it.
    pub(crate) fn by_process(situation: &str, fs: &Filesystem) -> Self {
        let path = match situation {
            "tmpfile" | "hostile-name" => fs.path().to_owned(),
            _ => fs.path().join(situation),
        };
        let holder = Holder::start(situation, &path);
        let (inode, bytes, device) = (holder.inode(), holder.bytes(), holder.device().to_owned());
        Self { inode, bytes, device, _by: Box::new(holder) }
    }

    /// Takes away the name of `path`, which `by` holds.
    fn without_name(path: &Path, by: impl Any) -> Self {
        let meta = path.metadata().unwrap();
        fs::remove_file(path).unwrap();
        let device = format!("{}:{}", libc::major(meta.dev()), libc::minor(meta.dev()));
        Self { inode: meta.ino(), bytes: meta.blocks() * 512, device, _by: Box::new(by) }
    }

    pub(crate) fn by_loop_device(fs: &Filesystem) -> Self {
        let path = fs.path().join("image");
        file(&path, MIB);
        Self::without_name(&path, LoopDevice::on(&path))
    }

    /// Of the loop device, nobody but the mount knows.
    pub(crate) fn by_mounted_image(fs: &Filesystem) -> Self {
        let (path, at) = (fs.path().join("mounted"), fs.beside("inside"));
        File::create(&path).unwrap().set_len(8 * MIB).unwrap();
        tool("mkfs.ext4", &["-q".as_ref(), path.as_ref()]);
        let device = LoopDevice::on(&path);
        mount(Some(device.node()), &at, Some("ext4"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
        drop(device);
        File::open(&path).unwrap().sync_all().unwrap();
        Self::without_name(&path, Mounted(at))
    }

    pub(crate) fn by_mounted_erofs(fs: &Filesystem) -> Self {
        let (path, at) = mount_erofs(fs);
        Self::without_name(&path, Mounted(at))
    }

    pub(crate) fn by_bind_mount(fs: &Filesystem) -> Self {
        let (path, at) = to_be_bound(fs, "bound");
        bind(&path, &at);
        Self::without_name(&path, Mounted(at))
    }

    pub(crate) fn by_mount_of_another_namespace(fs: &Filesystem) -> Self {
        let (path, at) = to_be_bound(fs, "elsewhere");
        let namespace = Namespace::new(&["--mount"], r#"mount --bind "$1" "$2""#, &[&path, &at]);
        Self::without_name(&path, namespace)
    }

    pub(crate) fn by_namespace_without_process(fs: &Filesystem) -> Self {
        let (path, at) = to_be_bound(fs, "pinned");
        let namespace = Namespace::new(&["--mount"], r#"mount --bind "$1" "$2""#, &[&path, &at]);
        let pinned = File::open(format!("/proc/{}/ns/mnt", namespace.pid())).unwrap();
        drop(namespace);
        Self::without_name(&path, pinned)
    }

    /// Mounted in a tree that is in no namespace, of which only the root is open.
    pub(crate) fn by_detached_tree(fs: &Filesystem) -> Self {
        let (path, tree) = (fs.path().join("detached"), fs.beside("tree"));
        file(&path, 64 * KIB);
        mount_tmpfs(&tree, MIB, MsFlags::empty());
        let point = tree.join("point");
        File::create(&point).unwrap();
        bind(&path, &point);
        let detached = clone_tree(&tree);
        umount2(&tree, MntFlags::MNT_DETACH).unwrap();
        Self::without_name(&path, detached)
    }

    pub(crate) fn by_interpreter(fs: &Filesystem) -> Self {
        let [kept, found] = ["kept", "found"].map(|name| fs.path().join(name));
        for path in [&kept, &found] {
            file(path, 64 * KIB);
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let namespace = interpreters(&kept, &found, &fs.beside("binfmt_misc"));
        fs::remove_file(&found).unwrap();
        Self::without_name(&kept, namespace)
    }

    pub(crate) fn by_probe(fs: &Filesystem) -> Self {
        let (path, tracefs) = (fs.path().join("program"), fs.beside("tracefs"));
        file(&path, 64 * KIB);
        mount(Some("tracefs"), &tracefs, Some("tracefs"), MsFlags::empty(), None::<&str>).unwrap();
        Self::without_name(&path, Probe::new(&tracefs, &path))
    }

    /// Open through an overlay, whose upper layer has it.
    pub(crate) fn through_overlay(fs: &Filesystem) -> Self {
        let lower = fs.path().join("lower");
        fs::create_dir(&lower).unwrap();
        let overlay = Overlay::new(&lower, fs, "overlay");
        let (seen, real) = (overlay.at.join("file"), overlay.upper.join("file"));
        let holder = Holder::start("written", &seen);
        let meta = real.metadata().unwrap();
        fs::remove_file(&seen).unwrap();
        let device = format!("{}:{}", libc::major(meta.dev()), libc::minor(meta.dev()));
        Self { inode: meta.ino(), bytes: meta.blocks() * 512, device, _by: Box::new((holder, overlay)) }
    }

    /// A file that is watched: nothing holds it.
    pub(crate) fn by_watch(fs: &Filesystem) -> Self {
        let path = fs.path().join("watched");
        file(&path, 64 * KIB);
        let watcher = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::IN_CLOEXEC).unwrap();
        watcher.add_watch(&path, nix::sys::inotify::AddWatchFlags::IN_ALL_EVENTS).unwrap();
        Self::without_name(&path, watcher)
    }
}

/// A file, and a place to mount it.
fn to_be_bound(fs: &Filesystem, name: &str) -> (PathBuf, PathBuf) {
    let (path, at) = (fs.path().join(name), fs.beside(name).join("point"));
    file(&path, 64 * KIB);
    File::create(&at).unwrap();
    (path, at)
}

/// Unmounted when this goes out of scope.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// An image on `fs` and where it is mounted, without any loop device: Linux 6.12.
pub(crate) fn mount_erofs(fs: &Filesystem) -> (PathBuf, PathBuf) {
    let (image, content, at) = (fs.path().join("erofs"), fs.beside("content"), fs.beside("erofs-at"));
    fs::write(content.join("file"), vec![1; 100 << 10]).unwrap();
    tool("mkfs.erofs", &["--quiet".as_ref(), image.as_ref(), content.as_ref()]);
    File::open(&image).unwrap().sync_all().unwrap();
    mount(Some(&image), &at, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
    (image, at)
}
