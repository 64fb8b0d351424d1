//! From what the rooms have seen to the report's own values.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::commands::explain::Seen;
use crate::commands::survey::PROC;
use crate::filesystems::{self, Internal};
use crate::holders::describe::{Owner, describe};
use crate::holders::{Held, Hold, KernelHold, Scan, Via};
use crate::model::bytes::{Bytes, Gap};
use crate::model::capability::{Capability, Effective};
use crate::model::findings::{self, Evidence};
use crate::model::last_name::LastName;
use crate::model::ledger::{Cause, Ledger, Term, Views};
use crate::model::limits::Limits;
use crate::model::remedies as remedy;
use crate::model::skips::{Kind, Skip};
use crate::model::usage::{self as census, Census, Part, Tally};
use crate::mounts::Mount;
use crate::mounts::locate::{self, Target};
use crate::report::{
    Capacity, Deleted, Detail, Directory, Entry, Filesystem, Finding, HeldBy, HeldOn, Hidden, Holder, Kernel,
    Method, NameUnknown, Overlay, Process, Reason, Report, Row, Run, SCHEMA_VERSION, Skipped, Tool,
    UnattributedReason, flags, timestamp,
};
use crate::statvfs as probe;

/// When a run was, and whether it was ended early.
pub(crate) struct Times {
    pub(crate) started: SystemTime,
    pub(crate) elapsed: Duration,
    pub(crate) interrupted: bool,
}

/// Builds the report; describes the holders that are in it.
pub(crate) fn report(times: &Times, seen: &[Seen], timeout: Duration) -> Report {
    let owners = owners(seen.iter().map(|seen| &seen.scan), timeout);
    let rights = Effective::current();
    let filesystems: Vec<Filesystem> =
        seen.iter().map(|seen| filesystem(seen, &owners, rights, times.interrupted)).collect();
    let skipped = filesystems.iter().any(|filesystem| !filesystem.skipped.is_empty());
    Report { run: run(times, !skipped), filesystems }
}

/// The report of the command `deleted`: what was held on each of `targets`, and at an `earlier` look,
/// if there was one, with the time between them.
pub(crate) fn deleted(
    times: &Times,
    targets: &[Target],
    scans: &[Scan],
    earlier: Option<(&[Scan], Duration)>,
    timeout: Duration,
) -> Deleted {
    let owners = owners(scans.iter(), timeout);
    let rights = Effective::current();
    let filesystems = targets.iter().zip(scans).map(|(target, scan)| held_on(&target.mount, scan)).collect();
    let mut holders: Vec<Holder> = Vec::new();
    for (index, scan) in scans.iter().enumerate() {
        let before = earlier.and_then(|(scans, _)| scans.get(index));
        holders.extend(scan.held.iter().map(|held| Holder {
            grown_bytes: before.and_then(|before| grown(held, before)),
            ..holder(held, &owners)
        }));
    }
    holders.sort_by_key(|holder| Reverse(holder.bytes));
    let mut skips: Vec<(&Skip, &Mount)> = Vec::new();
    for (skip, target) in
        scans.iter().zip(targets).flat_map(|(scan, on)| scan.skips.iter().map(move |skip| (skip, on)))
    {
        // Processes are the same for all filesystems.
        let is_of_all = matches!(skip.kind, Kind::Process | Kind::Unlisted);
        if !(is_of_all && skips.iter().any(|(known, _)| *known == skip)) {
            skips.push((skip, &target.mount));
        }
    }
    Deleted {
        run: run(times, skips.is_empty()),
        interval_ms: earlier.map(|(_, interval)| milliseconds(interval)),
        filesystems,
        holders,
        sums: Vec::new(),
        processes_read: scans.iter().map(|scan| scan.processes).max().unwrap_or(0),
        skipped: skips.into_iter().map(|(skip, mount)| skipped(skip.clone(), rights, Some(mount))).collect(),
    }
}

fn run(times: &Times, all_seen: bool) -> Run {
    Run {
        schema_version: SCHEMA_VERSION,
        tool: Tool::this(),
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        started: times.started,
        finished: times.started.checked_add(times.elapsed).unwrap_or(times.started),
        elapsed_ms: milliseconds(times.elapsed),
        as_root: nix::unistd::geteuid().is_root(),
        complete: all_seen && !times.interrupted,
        interrupted: times.interrupted,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn held_on(mount: &Mount, scan: &Scan) -> HeldOn {
    HeldOn {
        mountpoint: mount.mountpoint.clone(),
        fstype: mount.fstype.clone(),
        in_memory: mount.is_in_memory(),
        bytes: scan.held.iter().map(|held| Bytes(held.stat.allocated)).sum(),
        inodes: scan.held.len() as u64,
        unattributed_reasons: reasons(scan),
    }
}

/// What may hold those for which no holder was found.
fn reasons(scan: &Scan) -> Vec<UnattributedReason> {
    if scan.held.iter().all(Held::is_attributed) {
        return Vec::new();
    }
    let skipped = |kind| scan.skips.iter().filter(|skip| skip.kind == kind).count() as u64;
    let suspects = scan.suspects;
    let counts = [
        (Reason::ProcessesNotInspected, skipped(Kind::Process)),
        (Reason::ProcessesNotListed, skipped(Kind::Unlisted).min(1)),
        (Reason::MappedFiles, skipped(Kind::Mapping)),
        (Reason::SocketsWithQueuedDescriptors, suspects.sockets),
        (Reason::IoUringRegisteredFiles, suspects.rings),
        (Reason::FilesOpenThroughOverlays, suspects.overlays),
    ];
    let some = counts.into_iter().filter(|&(_, count)| count > 0);
    some.map(|(reason, count)| UnattributedReason { reason, count }).collect()
}

/// How much more an inode takes up than in an earlier scan, if it was in that.
fn grown(held: &Held, earlier: &Scan) -> Option<Gap> {
    let same = |other: &&Held| (other.stat.dev, other.stat.inode) == (held.stat.dev, held.stat.inode);
    let before = earlier.held.iter().find(same)?;
    Some(Bytes(held.stat.allocated) - Bytes(before.stat.allocated))
}

/// One inode, with its holders described.
pub(crate) fn described(held: &Held, timeout: Duration) -> Holder {
    let pids: Vec<i32> = held.holds.iter().map(|hold| hold.pid).collect();
    holder(held, &describe(&pids, Path::new(PROC), timeout))
}

/// Everything that could not be looked at, with what would unlock it.
pub(crate) fn skipped_all(skips: Vec<Skip>) -> Vec<Skipped> {
    let rights = Effective::current();
    skips.into_iter().map(|skip| skipped(skip, rights, None)).collect()
}

/// Who the processes are that hold something.
fn owners<'a>(scans: impl Iterator<Item = &'a Scan>, timeout: Duration) -> HashMap<i32, Owner> {
    let mut pids: Vec<i32> =
        scans.flat_map(|scan| &scan.held).flat_map(|held| &held.holds).map(|hold| hold.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    if pids.is_empty() { HashMap::new() } else { describe(&pids, Path::new(PROC), timeout) }
}

fn filesystem(seen: &Seen, owners: &HashMap<i32, Owner>, rights: Effective, interrupted: bool) -> Filesystem {
    let mount = &seen.target.mount;
    let walk = seen.counted.census.as_ref().ok();
    let skips = seen.skips();
    let hidden = walk.and_then(|walk| hidden(seen, walk));
    let outside = walk.and_then(|walk| walk.outside.as_ref().ok()?.as_ref());
    let holders: Vec<Holder> = seen.scan.held.iter().map(|held| holder(held, owners)).collect();
    let mut capacity = seen
        .samples
        .as_ref()
        .map(|samples| capacity(&samples.capacity, mount, &seen.limits))
        .unwrap_or_default();
    let mut views = Views {
        used: capacity.used_bytes,
        hidden: hidden.as_deref().map(|hidden| total(hidden.iter().map(|h| (h.bytes, h.inodes)))),
        skipped: interrupted || skips.iter().any(|skip| !(seen.scan.listed && skip.kind.is_about_holders())),
        ..views(seen)
    };
    if mount.is_in_memory() && capacity.size_bytes == Bytes::ZERO {
        // tmpfs without a limit counts nothing (mm/shmem.c, `shmem_statfs`), and keeps nothing but files.
        views.used = views.files();
        capacity.used_bytes = views.used;
    }
    let ledger = Ledger::close(&views);
    let findings = findings(seen, &capacity);
    let place = remedy::Place { mountpoint: &mount.mountpoint, is_listed: seen.scan.listed };
    let unconfined = seen.counted.internal.as_ref().and_then(|internal| internal.unconfined);
    Filesystem {
        mountpoint: mount.mountpoint.clone(),
        root: mount.root.clone(),
        source: PathBuf::from(&mount.source),
        fstype: mount.fstype.clone(),
        traits: mount.traits,
        dev: mount.dev.to_string(),
        overlay: seen.target.overlay.as_ref().map(|overlay| self::overlay(overlay, walk)),
        capacity,
        method: if seen.counted.from_tables { Method::InodeTable } else { Method::Walk },
        method_note: seen.counted.unable.as_ref().map(ToString::to_string),
        unconfined_note: unconfined.map(|errno| errno.desc().to_owned()),
        visible_bytes: views.visible.bytes,
        gap_bytes: ledger.gap,
        unexplained_bound_bytes: ledger.bound,
        ledger: rows(&ledger, hidden.as_deref(), outside, seen.counted.internal.as_ref()),
        remedies: remedy::advise(&holders, hidden.as_deref().unwrap_or_default(), place),
        holders,
        unattributed_reasons: reasons(&seen.scan),
        hidden: hidden.unwrap_or_default(),
        directories: walk.map(|walk| directories(walk, &mount.mountpoint)).unwrap_or_default(),
        findings,
        processes_read: seen.scan.processes,
        skipped: skips.into_iter().map(|skip| skipped(skip, rights, Some(mount))).collect(),
    }
}

/// What was measured, except what takes other parts of the report.
fn views(seen: &Seen) -> Views {
    let census = seen.counted.census.as_ref().ok();
    let held_by = |holds: fn(&Held) -> bool| {
        let matching = seen.scan.held.iter().filter(|held| holds(held));
        total(matching.map(|held| (Bytes(held.stat.allocated), 1)))
    };
    Views {
        moved: seen.moved,
        visible: census.map_or_else(Tally::default, |census| census.visible),
        outside: census.and_then(|census| Some(census.outside.as_ref().ok()?.as_ref()?.tally)),
        unlinked: held_by(|held| !held.holds.is_empty()),
        kernel: held_by(|held| held.holds.is_empty() && !held.kernel.is_empty()),
        unattributed: seen.scan.listed.then(|| held_by(|held| !held.is_attributed())),
        ..internal(seen)
    }
}

fn total(amounts: impl Iterator<Item = (Bytes, u64)>) -> Tally {
    amounts.fold(Tally::default(), |sum, (bytes, inodes)| Tally {
        bytes: sum.bytes + bytes,
        inodes: sum.inodes.saturating_add(inodes),
    })
}

/// What the filesystem itself knows of: what it keeps, what its files share, and what lies in no file.
fn internal(seen: &Seen) -> Views {
    let Some(internal) = &seen.counted.internal else { return Views::default() };
    let sum = |terms: &[Term]| terms.iter().map(|term| term.bytes).sum();
    let nameless: HashMap<u64, Bytes> = internal.nameless.iter().copied().collect();
    let mut unheld = nameless.clone();
    let mut written = Bytes::ZERO;
    for held in &seen.scan.held {
        unheld.remove(&held.stat.inode);
        // What was held when the tables were read counts with all its bytes already.
        let on_disk = nameless.get(&held.stat.inode);
        written += on_disk.map_or(Bytes::ZERO, |on_disk| Bytes(held.stat.allocated).saturating_sub(*on_disk));
    }
    let reservation = internal.delayed.saturating_sub(written);
    Views {
        shared: Some(sum(&internal.shared)),
        // Without a list of what is held nothing can be said to be held by nobody.
        unreachable: seen.scan.listed.then(|| {
            let unheld = unheld.into_values().map(|bytes| (bytes, 1));
            total(unheld.chain([(seen.lost.bytes, seen.lost.inodes)]))
        }),
        metadata: Some(sum(&internal.metadata)),
        reservation: seen.counted.from_tables.then_some(reservation),
        ..Views::default()
    }
}

fn rows(
    ledger: &Ledger,
    hidden: Option<&[Hidden]>,
    outside: Option<&Part>,
    internal: Option<&Internal>,
) -> Vec<Row> {
    let detail = |cause| match cause {
        Cause::HiddenByMount => hidden.map(|hidden| hidden.iter().map(mount_detail).collect()),
        Cause::OutsideMount => outside.map(|outside| outside.largest.iter().map(outside_detail).collect()),
        Cause::Metadata => internal.map(|internal| amounts(&internal.metadata)),
        Cause::Shared => internal.map(|internal| details(&internal.shared, |bytes| Gap(0) - bytes)),
        _ => None,
    };
    let rows = ledger.rows.iter();
    rows.map(|row| Row {
        cause: row.cause,
        bytes: row.bytes,
        basis: row.basis,
        inodes: row.inodes,
        detail: detail(row.cause).unwrap_or_default(),
    })
    .collect()
}

fn mount_detail(hidden: &Hidden) -> Detail {
    Detail { name: hidden.mountpoint.to_string_lossy().into_owned(), bytes: Gap::from(hidden.bytes) }
}

/// Named from the filesystem's root: no path leads there.
fn outside_detail(entry: &census::Entry) -> Detail {
    let name = Path::new("/").join(&entry.path).to_string_lossy().into_owned();
    Detail { name, bytes: Gap::from(entry.tally.bytes) }
}

fn amounts(terms: &[Term]) -> Vec<Detail> {
    details(terms, |bytes| bytes)
}

fn details(terms: &[Term], sign: impl Fn(Gap) -> Gap) -> Vec<Detail> {
    let detail = |term: &Term| Detail { name: term.name.to_owned(), bytes: sign(Gap::from(term.bytes)) };
    terms.iter().filter(|term| term.bytes > Bytes::ZERO).map(detail).collect()
}

/// What the walk found beneath each mount point, the most first.
fn hidden(seen: &Seen, walk: &Census) -> Option<Vec<Hidden>> {
    let covers = seen.target.covers.iter().zip(walk.hidden.as_ref().ok()?);
    let mut hidden: Vec<Hidden> = covers
        .map(|(cover, part)| Hidden {
            mountpoint: cover.mountpoint.clone(),
            bytes: part.tally.bytes,
            inodes: part.tally.inodes,
            largest: cover.listed.then(|| entries(part, &seen.target.mount.mountpoint)),
        })
        .collect();
    hidden.sort_by(|a, b| (b.bytes, &a.mountpoint).cmp(&(a.bytes, &b.mountpoint)));
    Some(hidden)
}

/// The largest names of what is not visible, below where the filesystem is mounted.
fn entries(part: &Part, mountpoint: &Path) -> Vec<Entry> {
    let largest = part.largest.iter();
    largest
        .map(|entry| Entry {
            path: mountpoint.join(&entry.path),
            bytes: entry.tally.bytes,
            inodes: entry.tally.inodes,
        })
        .collect()
}

fn directories(walk: &Census, mountpoint: &Path) -> Vec<Directory> {
    let largest = walk.directories.iter();
    largest
        .map(|directory| Directory {
            path: mountpoint.join(&directory.path),
            bytes: directory.tally.bytes,
            inodes: directory.tally.inodes,
        })
        .collect()
}

fn overlay(overlay: &locate::Overlay, walk: Option<&Census>) -> Overlay {
    let tally = walk.and_then(|walk| walk.watched);
    Overlay {
        mountpoint: overlay.mountpoint.clone(),
        path: overlay.upper.clone(),
        upper_bytes: tally.map(|tally| tally.bytes),
        upper_inodes: tally.map(|tally| tally.inodes),
    }
}

fn findings(seen: &Seen, capacity: &Capacity) -> Vec<Finding> {
    let mount = &seen.target.mount;
    let longest = seen.counted.census.as_ref().ok().and_then(|walk| walk.longest_directory.as_ref());
    let longest = longest.map(|(path, size)| (mount.mountpoint.join(path), *size));
    findings::find(&Evidence {
        mountpoint: &mount.mountpoint,
        source: Path::new(&mount.source),
        traits: mount.traits,
        capacity,
        limits: &seen.limits,
        longest_directory: longest.as_ref(),
    })
}

fn capacity(sample: &probe::Capacity, mount: &Mount, limits: &Limits) -> Capacity {
    // The kernel shows them where they are not root's (fs/ext4/super.c, `_ext4_show_options`).
    let id = |option: &str| std::str::from_utf8(&mount.option(option)?).ok()?.parse().ok();
    Capacity {
        reserved_uid: id("resuid").filter(|uid| *uid != 0),
        reserved_gid: id("resgid").filter(|gid| *gid != 0),
        size_bytes: sample.size,
        used_bytes: sample.used,
        free_bytes: sample.free,
        available_bytes: sample.available,
        reserved_bytes: sample.reserved,
        inodes: sample.inodes,
        inodes_free: sample.inodes_free,
        device_bytes: limits.device_size,
        uncounted: limits.uncounted.as_deref().filter(|terms| makes_up(terms, limits, sample)).map(amounts),
        reserved_blocks_bytes: limits.reserve.map(|reserve| reserve.blocks.min(Bytes::MOST)),
        reserved_clusters_bytes: limits.reserve.map(|reserve| reserve.clusters.min(Bytes::MOST)),
    }
}

/// Whether all that is uncounted is what the size lacks. It is not where the size is that of a project's
/// quota (statfs(2) of a directory with one), nor where the filesystem has just been made larger.
fn makes_up(uncounted: &[Term], limits: &Limits, sample: &probe::Capacity) -> bool {
    let uncounted: Bytes = uncounted.iter().map(|term| term.bytes).sum();
    limits.device_size == Some(sample.size + uncounted)
}

fn skipped(skip: Skip, rights: Effective, mount: Option<&Mount>) -> Skipped {
    Skipped {
        check: mount.filter(|_| skip.is_damage()).and_then(filesystems::check),
        inode: skip.inode.filter(|_| skip.is_damage()),
        kind: skip.kind,
        errno: skip.errno.map(|errno| format!("{errno:?}")),
        needs: skip.needs(rights).map(Capability::name),
        path: skip.path,
    }
}

fn holder(held: &Held, owners: &HashMap<i32, Owner>) -> Holder {
    Holder {
        dev: held.stat.dev.to_string(),
        inode: held.stat.inode,
        kind: kind(held.stat.mode),
        bytes: Bytes(held.stat.allocated),
        size_bytes: Bytes(held.stat.size),
        uid: held.stat.uid,
        path: held.name.path().map(Path::to_path_buf),
        name_unknown: name_unknown(&held.name),
        grown_bytes: None,
        written: timestamp(held.stat.modified),
        in_deleted_subvolume: held.stat.is_in_deleted_subvolume(),
        subvolume: held.stat.subvolume.filter(|_| held.stat.is_in_deleted_subvolume()),
        held_by: held
            .holds
            .iter()
            .map(|hold| held_by(hold, owners.get(&hold.pid)))
            .chain(held.kernel.iter().map(held_by_kernel))
            .collect(),
    }
}

fn name_unknown(name: &LastName) -> Option<NameUnknown> {
    match name {
        LastName::Told(_) | LastName::Never => None,
        LastName::TooLong => Some(NameUnknown::TooLong),
        LastName::NotTold => Some(NameUnknown::NotTold),
    }
}

fn held_by_kernel(hold: &KernelHold) -> HeldBy {
    HeldBy::Kernel(Kernel {
        via: hold.via.name(),
        name: hold.name.clone(),
        can_be_unmounted: hold.mounted.is_some(),
    })
}

fn held_by(hold: &Hold, owner: Option<&Owner>) -> HeldBy {
    let owner = owner.cloned().unwrap_or_default();
    let (via, fd, info) = match hold.via {
        Via::Descriptor { number, info } => ("fd", Some(number), info),
        Via::Mapping => ("map", None, None),
        Via::Executable => ("exe", None, None),
        Via::WorkingDirectory => ("cwd", None, None),
        Via::RootDirectory => ("root", None, None),
        Via::Socket { number } => ("socket", Some(number), None),
        Via::Ring { number } => ("io_uring", Some(number), None),
    };
    let membership = owner.membership;
    HeldBy::Process(Process {
        pid: hold.pid,
        tid: hold.tid,
        fd,
        via,
        flags: info.map(|info| flags::names(info.flags)),
        position: info.map(|info| info.position),
        command: owner.command,
        user: owner.user,
        started: owner.started.and_then(timestamp),
        identity: Arc::new(owner.identity),
        unit: membership.unit,
        container: membership.container,
        nested_container: membership.nested_container,
        runtime: membership.runtime,
        pod: membership.pod,
    })
}

/// The type in `st_mode`, by the names of the report.
fn kind(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => "directory",
        libc::S_IFLNK => "symlink",
        libc::S_IFIFO => "fifo",
        libc::S_IFSOCK => "socket",
        libc::S_IFCHR => "character_device",
        libc::S_IFBLK => "block_device",
        _ => "file",
    }
}
