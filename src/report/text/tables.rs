// SPDX-License-Identifier: MIT OR Apache-2.0

//! The holders, what would free their space, and the largest directories.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::time::Duration;

use super::Screen;
use super::layout::{ago, cut_start, list};
use super::table::{self, Align, column, expendable};
use crate::model::bytes::{Bytes, Gap, Units, grouped};
use crate::model::deleted::{KernelVia, Reason};
use crate::report::{DeletedFile, Entry, Filesystem, Holder, Process, UnattributedReason, Via};

/// How much of a container's id is shown, as its runtime does.
const SHORT_ID: usize = 12;
/// How much is shown of what stands in place of a command: the end of a mount point tells most.
const LONGEST_COMMAND: usize = 36;

/// Those that take up space, the largest first. With an interval between two looks also how fast they
/// grow, in bytes a second.
pub(super) fn deleted(screen: &mut Screen<'_>, files: &[DeletedFile], interval: Option<Duration>) {
    let style = screen.style;
    let shown: Vec<&DeletedFile> = files.iter().filter(|file| file.bytes > Bytes::ZERO).collect();
    let (shown, rest) = shown.split_at(style.top.min(shown.len()));
    let with_unit = shown.iter().any(|file| !unit(file).is_empty());
    let columns = [
        column("SIZE", Align::Right),
        column(if interval.is_some() { "GROWS" } else { "" }, Align::Right),
        column("PID:FD", Align::Left),
        expendable("PROCESS", Align::Left, 1),
        expendable(if with_unit { "UNIT" } else { "" }, Align::Left, 3),
        column("LAST KNOWN PATH", Align::GivesWay),
        expendable("WRITTEN", Align::Left, 2),
    ];
    let names = &*screen;
    let row = |file: &&DeletedFile| {
        let name = file.path.as_deref().map_or_else(|| file.without_name(), |path| names.path(path));
        let written = file.written.map(|written| ago(written, style.now)).unwrap_or_default();
        vec![
            style.units.format(file.bytes),
            interval.map(|interval| rate(file, interval, style.units)).unwrap_or_default(),
            handle(file),
            short(names, &command(file)),
            names.name(unit(file).as_bytes()),
            name,
            written,
        ]
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    table::write(screen, &columns, &rows);
    if !rest.is_empty() {
        let bytes: Bytes = rest.iter().map(|file| file.bytes).sum();
        let (count, bytes) = (rest.len(), style.units.format(bytes));
        screen.sentence(&format!(
            "  and {} more, {bytes} together (--top N shows more)",
            grouped(count as u64)
        ));
    }
}

/// `No holder was found for 2 of them. Possible holders: 1 process that could not be inspected.`
pub(super) fn unattributed(screen: &mut Screen<'_>, files: &[DeletedFile], reasons: &[UnattributedReason]) {
    let count = files.iter().filter(|file| file.held_by.is_empty()).count();
    if count == 0 {
        return;
    }
    let of_them =
        if files.len() == 1 { "it".to_owned() } else { format!("{} of them", grouped(count as u64)) };
    let reasons: Vec<String> = reasons.iter().map(reason).collect();
    let may =
        if reasons.is_empty() { String::new() } else { format!(" Possible holders: {}.", list(&reasons)) };
    screen.blank();
    screen.sentence(&format!("No holder was found for {of_them}.{may}"));
}

fn reason(reason: &UnattributedReason) -> String {
    let (one, many) = match reason.reason {
        Reason::ProcessesNotInspected => {
            ("process that could not be inspected", "processes that could not be inspected")
        }
        Reason::ProcessesNotListed => return "a process that is not listed here".to_owned(),
        Reason::MappedFiles => ("mapped file that could not be read", "mapped files that could not be read"),
        Reason::SocketsWithQueuedDescriptors => {
            ("socket with queued descriptors", "sockets with queued descriptors")
        }
        Reason::IoUringRegisteredFiles => {
            ("io_uring with registered files", "io_uring instances with registered files")
        }
        Reason::FilesOpenThroughOverlays => {
            ("deleted file open through an overlay", "deleted files open through overlays")
        }
    };
    format!("{} {}", grouped(reason.count), if reason.count == 1 { one } else { many })
}

/// What a file in a deleted subvolume keeps besides itself.
pub(super) fn subvolumes(screen: &mut Screen<'_>, files: &[DeletedFile]) {
    let held: Vec<&DeletedFile> = files.iter().filter(|file| file.in_deleted_subvolume).collect();
    if held.is_empty() {
        return;
    }
    let mut by: Vec<String> = held.iter().map(|file| handle(file)).collect();
    let more = by.len().saturating_sub(screen.style.top);
    by.truncate(screen.style.top);
    by.extend((more > 0).then(|| format!("{} more", grouped(more as u64))));
    screen.blank();
    screen.sentence(&format!(
        "A deleted subvolume stays on the disk, with all that is in it, while one of its files is held. Holders: {}.",
        list(&by)
    ));
}

/// `+1.2 MiB/s`; nothing for what was not there at the first look.
fn rate(file: &DeletedFile, interval: Duration, units: Units) -> String {
    let Some(grown) = file.grown_bytes else { return String::new() };
    let milliseconds = interval.as_millis().max(1);
    let rate = u128::from(grown.magnitude().0) * 1000 / milliseconds;
    let rate = units.format(Bytes(u64::try_from(rate).unwrap_or(u64::MAX)));
    match grown.cmp(&Gap(0)) {
        Ordering::Less => format!("-{rate}/s"),
        Ordering::Equal => "no".to_owned(),
        Ordering::Greater => format!("+{rate}/s"),
    }
}

/// What stands in place of a command may be long.
pub(super) fn short(screen: &Screen<'_>, command: &str) -> String {
    cut_start(&screen.name(command.as_bytes()), LONGEST_COMMAND, screen.style.unicode)
}

/// Through what it can be reached: a descriptor, or else the inode's number. What stands before the colon
/// is a thread where a thread alone holds it: its number opens the same table in /proc.
fn handle(file: &DeletedFile) -> String {
    let through = |process: &Process| {
        let way = match process.via {
            Via::Fd | Via::IoUring => process.fd?.to_string(),
            Via::Map => "map".to_owned(),
            Via::Exe => "exe".to_owned(),
            Via::Cwd => "cwd".to_owned(),
            Via::Root => "root".to_owned(),
            // What waits in a queue is not to be had through the socket's descriptor.
            Via::Socket => return None,
        };
        Some(format!("{}:{way}", process.tid.unwrap_or(process.pid)))
    };
    let handle = match file.held_by.first() {
        Some(Holder::Process(process)) => through(process),
        Some(Holder::Kernel(_)) | None => None,
    };
    let handle = handle.unwrap_or_else(|| format!("inode:{}", file.inode));
    let more = match file.held_by.len() {
        0 | 1 => String::new(),
        count => format!(" +{}", count - 1),
    };
    handle + &more
}

/// The process's command; in its place what in the kernel holds it.
fn command(file: &DeletedFile) -> Cow<'_, str> {
    match file.held_by.first() {
        Some(Holder::Process(process)) if process.via == Via::Socket => {
            format!("queued for {} {}", process.command.as_deref().unwrap_or("process"), process.pid).into()
        }
        Some(Holder::Process(process)) => process.command.as_deref().unwrap_or_default().into(),
        // A device says itself what it is.
        Some(Holder::Kernel(kernel)) if kernel.via == KernelVia::Loop => kernel.name.as_str().into(),
        Some(Holder::Kernel(kernel)) => format!("{} {}", kernel.via.word(), kernel.name).into(),
        None => "(unknown)".into(),
    }
}

/// The unit, or the container where there is one: the first digits of its id, as its runtime shows it.
fn unit(file: &DeletedFile) -> &str {
    let Some(Holder::Process(process)) = file.held_by.first() else { return "" };
    if process.via == Via::Socket {
        // It was only sent there.
        return "";
    }
    let container = process.container.as_deref().map(|id| id.get(..SHORT_ID).unwrap_or(id));
    container.or(process.unit.as_deref()).unwrap_or_default()
}

/// The largest directories, cumulative like du.
pub(super) fn directories(screen: &mut Screen<'_>, filesystem: &Filesystem) {
    let shown: Vec<&Entry> = filesystem.directories.iter().filter(|d| d.bytes > Bytes::ZERO).collect();
    if shown.is_empty() {
        return;
    }
    screen.blank();
    screen.sentence("The largest directories that you can see, with all below them:");
    screen.blank();
    let units = screen.style.units;
    let names = &*screen;
    let row = |directory: &Entry| {
        vec![units.format(directory.bytes), grouped(directory.inodes), names.path(&directory.path)]
    };
    let rows: Vec<Vec<String>> = shown.into_iter().map(row).collect();
    table::write(
        screen,
        &[
            column("SIZE", Align::Right),
            expendable("FILES", Align::Right, 1),
            column("DIRECTORY", Align::GivesWay),
        ],
        &rows,
    );
}
