// SPDX-License-Identifier: MIT OR Apache-2.0

//! From what the rooms have found to the report.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::commands::filesystem_run::FilesystemRun;
use crate::commands::survey::PROC;
use crate::filesystems::{self, Internal};
use crate::holders::describe::Processes;
use crate::holders::{Held, Scan};
use crate::model::bytes::{Bytes, Gap};
use crate::model::capability::Effective;
use crate::model::capacity::{Capacity, Detail, Figures, ReserveOwner};
use crate::model::deleted::DeletedFile;
use crate::model::findings::{self, Evidence, Finding};
use crate::model::group_by::{GroupBy, add_up};
use crate::model::ledger::{Cause, Ledger, Term, Views};
use crate::model::limits::Limits;
use crate::model::remedies;
use crate::model::skips::{Explained, Kind, Skip, matters};
use crate::model::usage::{Census, Entry, Hidden, Part, Tally};
use crate::mounts::Mount;
use crate::mounts::locate::{self, Target};
use crate::report::{
    self, Deleted, Filesystem, HeldOn, Method, Overlay, Report, Row, Run, SCHEMA_VERSION, Skipped, Tool,
};
use crate::sys::capabilities;

/// When a run was, and whether it was ended early.
pub(crate) struct Times {
    pub(crate) started: SystemTime,
    pub(crate) elapsed: Duration,
    pub(crate) interrupted: bool,
}

/// Builds the report; describes the holders that are in it.
pub(crate) fn report(times: &Times, seen: &[FilesystemRun], timeout: Duration) -> Report {
    let processes = Processes::of_scans(seen.iter().map(|seen| &seen.scan), Path::new(PROC), timeout);
    let rights = Effective::of(capabilities::effective());
    let filesystems: Vec<Filesystem> =
        seen.iter().map(|seen| filesystem(seen, &processes, rights, times.interrupted)).collect();
    let skipped = filesystems.iter().flat_map(|filesystem| &filesystem.skipped);
    let is_incomplete = skipped.into_iter().any(|skipped| skipped.matters);
    Report { run: run(times, !is_incomplete), filesystems }
}

/// The report of the command `deleted`: what was held on each of `targets`, and at an `earlier` look,
/// if there was one, with the time between them; added up, if that was asked for.
pub(crate) fn deleted(
    times: &Times,
    targets: &[Target],
    scans: &[Scan],
    earlier: Option<(&[Scan], Duration)>,
    group_by: Option<GroupBy>,
    timeout: Duration,
) -> Deleted {
    let processes = Processes::of_scans(scans.iter(), Path::new(PROC), timeout);
    let filesystems = targets.iter().zip(scans).map(|(target, scan)| held_on(&target.mount, scan)).collect();
    let mut files: Vec<DeletedFile> = Vec::new();
    for (index, scan) in scans.iter().enumerate() {
        let before = earlier.and_then(|(scans, _)| scans.get(index));
        files.extend(scan.held.iter().map(|held| DeletedFile {
            grown: before.and_then(|before| held.grown_since(before)),
            ..processes.describe(held)
        }));
    }
    files.sort_by_key(|file| Reverse(file.bytes));
    let skipped = skipped_on(targets, scans);
    Deleted {
        run: run(times, !skipped.iter().any(|skipped| skipped.matters)),
        interval_ms: earlier.map(|(_, interval)| milliseconds(interval)),
        filesystems,
        deleted: files.iter().map(report::DeletedFile::from).collect(),
        sums: group_by
            .map(|by| add_up(&files, by))
            .unwrap_or_default()
            .into_iter()
            .map(report::Sum::from)
            .collect(),
        processes_read: scans.iter().map(|scan| scan.processes).max().unwrap_or(0),
        skipped,
    }
}

/// What was skipped on any of `targets`. Processes are the same for all filesystems: told once, they matter
/// if they do for one of them.
fn skipped_on(targets: &[Target], scans: &[Scan]) -> Vec<Skipped> {
    let mut skips: Vec<(&Skip, &Mount, bool)> = Vec::new();
    for (scan, target) in scans.iter().zip(targets) {
        let explained = Explained { deleted: scan.knowledge(), ledger_closes: None };
        for skip in &scan.skips {
            let matters = matters(skip.kind, explained);
            let is_of_all = matches!(skip.kind, Kind::Process | Kind::Unlisted);
            let known = skips.iter_mut().find(|(known, ..)| is_of_all && *known == skip);
            match known {
                Some((.., known)) => *known |= matters,
                None => skips.push((skip, &target.mount, matters)),
            }
        }
    }
    let rights = Effective::of(capabilities::effective());
    let told = |(skip, mount, matters): (&Skip, &Mount, bool)| {
        Skipped::new(skip, matters, rights, filesystems::check(mount))
    };
    skips.into_iter().map(told).collect()
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

fn reasons(scan: &Scan) -> Vec<report::UnattributedReason> {
    scan.unattributed_reasons().into_iter().map(report::UnattributedReason::from).collect()
}

/// One inode, with its holders described.
pub(crate) fn described(held: &Held, timeout: Duration) -> DeletedFile {
    Processes::of_files(std::iter::once(held), Path::new(PROC), timeout).describe(held)
}

/// Skips that all matter, with what would unlock them.
pub(crate) fn skipped_all(skips: &[Skip]) -> Vec<Skipped> {
    let rights = Effective::of(capabilities::effective());
    skips.iter().map(|skip| Skipped::new(skip, true, rights, None)).collect()
}

fn filesystem(
    seen: &FilesystemRun,
    processes: &Processes,
    rights: Effective,
    interrupted: bool,
) -> Filesystem {
    let mount = &seen.target.mount;
    let census = seen.counted.census.as_ref().ok();
    let skips = seen.skips();
    let hidden = census.and_then(|census| hidden(seen, census));
    let outside = census.and_then(|census| census.outside.as_ref().ok()?.as_ref());
    let files: Vec<DeletedFile> = seen.scan.held.iter().map(|held| processes.describe(held)).collect();
    let mut capacity = seen
        .samples
        .as_ref()
        .map(|samples| capacity(&samples.figures, mount, &seen.limits))
        .unwrap_or_default();
    let mut views = Views {
        used: capacity.figures.used,
        hidden: hidden.as_deref().map(|hidden| total(hidden.iter().map(|h| (h.tally.bytes, h.tally.inodes)))),
        skipped: interrupted || skips.iter().any(|skip| !(seen.scan.listed && skip.kind.is_about_holders())),
        ..views(seen)
    };
    if mount.is_in_memory() && capacity.figures.size == Bytes::ZERO {
        // tmpfs without a limit counts nothing (mm/shmem.c, `shmem_statfs`), and keeps nothing but files.
        views.used = views.files();
        capacity.figures.used = views.used;
    }
    let ledger = Ledger::close(&views);
    // Where the filesystem counts nothing, whatever was found adds up.
    let ledger_closes = (capacity.figures.size > Bytes::ZERO).then(|| ledger.closes());
    let explained = Explained { deleted: seen.scan.knowledge(), ledger_closes };
    let findings = findings(seen, &capacity);
    let of = remedies::Filesystem { mountpoint: &mount.mountpoint, is_listed: seen.scan.listed };
    let remedies = remedies::advise(&files, hidden.as_deref().unwrap_or_default(), of);
    let unconfined = seen.counted.internal.as_ref().and_then(|internal| internal.unconfined);
    let skipped =
        |skip: &Skip| Skipped::new(skip, matters(skip.kind, explained), rights, filesystems::check(mount));
    Filesystem {
        mountpoint: mount.mountpoint.clone(),
        root: mount.root.clone(),
        source: PathBuf::from(&mount.source),
        fstype: mount.fstype.clone(),
        traits: mount.traits,
        dev: mount.dev.to_string(),
        overlay: seen.target.overlay.as_ref().map(|overlay| self::overlay(overlay, census)),
        capacity: report::Capacity::from(&capacity),
        method: if seen.counted.from_tables { Method::InodeTable } else { Method::Walk },
        method_note: seen.counted.unable.as_ref().map(ToString::to_string),
        unconfined_note: unconfined.map(|errno| errno.desc().to_owned()),
        visible_bytes: views.visible.bytes,
        gap_bytes: ledger.gap,
        unexplained_bound_bytes: ledger.bound,
        ledger: rows(&ledger, hidden.as_deref(), outside, seen.counted.internal.as_ref()),
        remedies: remedies.into_iter().map(report::Remedy::from).collect(),
        deleted: files.iter().map(report::DeletedFile::from).collect(),
        unattributed_reasons: reasons(&seen.scan),
        hidden: hidden.iter().flatten().map(report::Hidden::from).collect(),
        directories: census.map(|census| directories(census, &mount.mountpoint)).unwrap_or_default(),
        findings: findings.into_iter().map(report::Finding::from).collect(),
        processes_read: seen.scan.processes,
        skipped: skips.iter().map(skipped).collect(),
    }
}

/// What was measured, except what takes other parts of the report.
fn views(seen: &FilesystemRun) -> Views {
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
fn internal(seen: &FilesystemRun) -> Views {
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
    rows.map(|row| Row::new(row, &detail(row.cause).unwrap_or_default())).collect()
}

fn mount_detail(hidden: &Hidden) -> Detail {
    Detail { name: hidden.mountpoint.to_string_lossy().into_owned(), bytes: Gap::from(hidden.tally.bytes) }
}

/// Named from the filesystem's root: no path leads there.
fn outside_detail(entry: &Entry) -> Detail {
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

/// What lies beneath each mount point, the most first.
fn hidden(seen: &FilesystemRun, census: &Census) -> Option<Vec<Hidden>> {
    let below =
        |part: &Part| part.largest.iter().map(|entry| entry.below(&seen.target.mount.mountpoint)).collect();
    let covers = seen.target.covers.iter().zip(census.hidden.as_ref().ok()?);
    let mut hidden: Vec<Hidden> = covers
        .map(|(cover, part)| Hidden {
            mountpoint: cover.mountpoint.clone(),
            tally: part.tally,
            largest: cover.listed.then(|| below(part)),
        })
        .collect();
    hidden.sort_by(|a, b| (b.tally.bytes, &a.mountpoint).cmp(&(a.tally.bytes, &b.mountpoint)));
    Some(hidden)
}

fn directories(census: &Census, mountpoint: &Path) -> Vec<report::Entry> {
    census.directories.iter().map(|entry| report::Entry::from(&entry.below(mountpoint))).collect()
}

fn overlay(overlay: &locate::Overlay, census: Option<&Census>) -> Overlay {
    let tally = census.and_then(|census| census.watched);
    Overlay {
        mountpoint: overlay.mountpoint.clone(),
        path: overlay.upper.clone(),
        upper_bytes: tally.map(|tally| tally.bytes),
        upper_inodes: tally.map(|tally| tally.inodes),
    }
}

fn findings(seen: &FilesystemRun, capacity: &Capacity) -> Vec<Finding> {
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

fn capacity(figures: &Figures, mount: &Mount, limits: &Limits) -> Capacity {
    // The kernel shows them where they are not root's (fs/ext4/super.c, `_ext4_show_options`).
    let id = |option: &str| std::str::from_utf8(&mount.option(option)?).ok()?.parse().ok();
    let reserved_for =
        ReserveOwner { uid: id("resuid").filter(|uid| *uid != 0), gid: id("resgid").filter(|gid| *gid != 0) };
    Capacity {
        figures: *figures,
        reserved_for,
        device: limits.device_size,
        uncounted: limits.uncounted.as_deref().filter(|terms| makes_up(terms, limits, figures)).map(amounts),
        reserved_blocks: limits.reserve.map(|reserve| reserve.blocks.min(Bytes::MOST)),
        reserved_clusters: limits.reserve.map(|reserve| reserve.clusters.min(Bytes::MOST)),
    }
}

/// Whether all that is uncounted is what the size lacks. It is not where the size is that of a project's
/// quota (statfs(2) of a directory with one), nor where the filesystem has just been made larger.
fn makes_up(uncounted: &[Term], limits: &Limits, figures: &Figures) -> bool {
    let uncounted: Bytes = uncounted.iter().map(|term| term.bytes).sum();
    limits.device_size == Some(figures.size + uncounted)
}
