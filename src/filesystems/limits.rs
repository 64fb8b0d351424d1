//! What may keep a filesystem from storing anything though it has bytes left: errors it has noted,
//! quotas, its reserve, the device or the image it lies on, the memory it may take. Needs no right for
//! most of it; what cannot be read is left out, and never guessed.

mod chunks;
mod device;
mod quota;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::filesystems::{Geometry, Part};
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;
use crate::model::limits::{Limits, Refusal};
use crate::mounts::{self, Mount};

/// Reads the limits of the filesystem of `mount`, whose root is `root` (`O_PATH` is enough), and whose own
/// records are `geometry`. May wait up to half of `timeout` for a user database, and up to `timeout` for the
/// filesystem an image lies on.
pub fn read(mount: &Mount, root: BorrowedFd<'_>, geometry: Option<&Geometry>, timeout: Duration) -> Limits {
    let errors = errors(mount);
    let device_size = device_size(mount, geometry);
    let btrfs = geometry.and_then(|geometry| geometry.btrfs.as_ref());
    Limits {
        refuses: refusal(mount, errors),
        errors,
        directory: directory(mount),
        directory_index: geometry.and_then(|geometry| geometry.largest_directory),
        devices: geometry.map(|geometry| device::all(&geometry.parts)).unwrap_or_default(),
        device_size,
        uncounted: device_size.and_then(|size| uncounted(geometry?, size)),
        reserve: geometry.and_then(|geometry| geometry.reserve),
        image: device::image(mount.dev, timeout),
        quotas: quota::short(mount, root, btrfs, timeout / 2),
        memory: mount.is_in_memory().then(memory).flatten(),
        chunks: btrfs.and_then(chunks::read),
        snapshots: btrfs.and_then(|btrfs| btrfs.snapshots),
    }
}

/// The device of ext2/3/4 is known also where it cannot be opened.
fn device_size(mount: &Mount, geometry: Option<&Geometry>) -> Option<Bytes> {
    let of_part = |part: &Part| device::capacity(part.dev?);
    match geometry {
        Some(geometry) => geometry.parts.iter().map(of_part).sum(),
        None if mount.fstype.starts_with("ext") => device::capacity(mount.dev),
        None => None,
    }
}

/// What the filesystem takes up without its being counted, and what it does not take up. Nothing is told
/// of a device that is too small for its filesystem.
fn uncounted(geometry: &Geometry, device: Bytes) -> Option<Vec<Term>> {
    let taken: Bytes = geometry.parts.iter().map(|part| part.size).sum();
    let beyond = Bytes(device.0.checked_sub(taken.0)?);
    let mut uncounted = geometry.uncounted.clone()?;
    uncounted.push(Term { name: "beyond the filesystem's end", bytes: beyond });
    Some(uncounted)
}

/// `errors_count` of Documentation/ABI/testing/sysfs-fs-ext4.
pub(crate) fn errors(mount: &Mount) -> Option<u64> {
    if !mount.fstype.starts_with("ext") {
        return None;
    }
    let path = PathBuf::from("/sys/fs/ext4").join(mounts::device::name(mount.dev)?).join("errors_count");
    device::number(&path)
}

/// Since Linux 6.14 ext4 says so itself (fs/ext4/super.c, `_ext4_show_options`). Before 6.12 it turned
/// read-only like one that was mounted so, and only the errors tell the difference. Between, and on stable
/// kernels with the same change, nothing does: then the errors alone are told.
fn refusal(mount: &Mount, errors: Option<u64>) -> Option<Refusal> {
    let noted = errors.is_some_and(|errors| errors > 0);
    if mount.has_option("shutdown") {
        Some(Refusal::ShutDown)
    } else if mount.has_option("emergency_ro") || noted && mount.has_option("ro") {
        Some(Refusal::ReadOnly)
    } else {
        None
    }
}

/// `max_dir_size_kb`, ext4(5).
fn directory(mount: &Mount) -> Option<Bytes> {
    let value = mount.option("max_dir_size_kb")?;
    let kib: u64 = std::str::from_utf8(&value).ok()?.parse().ok()?;
    (kib > 0).then(|| Bytes(kib.saturating_mul(1024)))
}

/// `MemTotal`, `proc_meminfo(5)`.
fn memory() -> Option<Bytes> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_ends_with_the_device() {
        let log = Term { name: "log", bytes: Bytes(10) };
        let part = |number, size| Part { dev: None, number, size: Bytes(size) };
        let geometry = Geometry {
            parts: vec![part(1, 100), part(2, 50)],
            uncounted: Some(vec![log]),
            ..Geometry::default()
        };
        let beyond = |bytes| Term { name: "beyond the filesystem's end", bytes: Bytes(bytes) };
        assert_eq!(uncounted(&geometry, Bytes(151)), Some(vec![log, beyond(1)]));
        assert_eq!(uncounted(&geometry, Bytes(149)), None);
        assert_eq!(uncounted(&Geometry { uncounted: None, ..geometry }, Bytes(151)), None);
    }
}
