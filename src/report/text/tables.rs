//! The holders, what would free their space, and the largest directories.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::time::Duration;

use super::Screen;
use super::layout::{ago, cut_start, list};
use super::table::{self, Align, column, expendable};
use crate::model::bytes::{Bytes, Gap, Units, grouped};
use crate::report::{Directory, Filesystem, HeldBy, Holder, Kernel, Process, Reason, UnattributedReason};

/// How much of a container's id is shown, as its runtime does.
const SHORT_ID: usize = 12;
/// How much is shown of what stands in place of a command: the end of a mount point tells most.
const LONGEST_COMMAND: usize = 36;

/// Those that take up space, the largest first. With an interval between two looks also how fast they
/// grow, in bytes a second.
pub(super) fn holders(screen: &mut Screen<'_>, holders: &[Holder], interval: Option<Duration>) {
    let style = screen.style;
    let shown: Vec<&Holder> = holders.iter().filter(|h| h.bytes > Bytes::ZERO).collect();
    let (shown, rest) = shown.split_at(style.top.min(shown.len()));
    let with_unit = shown.iter().any(|holder| !unit(holder).is_empty());
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
    let row = |holder: &&Holder| {
        let name = holder.path.as_deref().map_or_else(|| holder.without_name(), |path| names.path(path));
        let written = holder.written.map(|written| ago(written, style.now)).unwrap_or_default();
        vec![
            style.units.format(holder.bytes),
            interval.map(|interval| rate(holder, interval, style.units)).unwrap_or_default(),
            handle(holder),
            short(names, &command(holder)),
            names.name(unit(holder).as_bytes()),
            name,
            written,
        ]
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    table::write(screen, &columns, &rows);
    if !rest.is_empty() {
        let bytes: Bytes = rest.iter().map(|holder| holder.bytes).sum();
        let (count, bytes) = (rest.len(), style.units.format(bytes));
        screen.sentence(&format!(
            "  and {} more, {bytes} together (--top N shows more)",
            grouped(count as u64)
        ));
    }
}

/// `No holder was found for 2 of them. Possible holders: 1 process that could not be inspected.`
pub(super) fn unattributed(screen: &mut Screen<'_>, holders: &[Holder], reasons: &[UnattributedReason]) {
    let count = holders.iter().filter(|holder| holder.held_by.is_empty()).count();
    if count == 0 {
        return;
    }
    let of_them =
        if holders.len() == 1 { "it".to_owned() } else { format!("{} of them", grouped(count as u64)) };
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
pub(super) fn subvolumes(screen: &mut Screen<'_>, holders: &[Holder]) {
    let held: Vec<&Holder> = holders.iter().filter(|holder| holder.in_deleted_subvolume).collect();
    if held.is_empty() {
        return;
    }
    let mut by: Vec<String> = held.iter().map(|holder| handle(holder)).collect();
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
fn rate(holder: &Holder, interval: Duration, units: Units) -> String {
    let Some(grown) = holder.grown_bytes else { return String::new() };
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
fn handle(holder: &Holder) -> String {
    let handle = match holder.held_by.first() {
        // What waits in a queue is not to be had through the socket's descriptor.
        Some(HeldBy::Process(Process { pid, tid, fd, via, .. })) if *via != "socket" => {
            let what = fd.map_or_else(|| (*via).to_owned(), |fd| fd.to_string());
            format!("{}:{what}", tid.unwrap_or(*pid))
        }
        _ => format!("inode:{}", holder.inode),
    };
    let more = match holder.held_by.len() {
        0 | 1 => String::new(),
        count => format!(" +{}", count - 1),
    };
    handle + &more
}

/// The process's command; in its place what in the kernel holds it.
fn command(holder: &Holder) -> Cow<'_, str> {
    match holder.held_by.first() {
        Some(HeldBy::Process(Process { via: "socket", command, pid, .. })) => {
            format!("queued for {} {pid}", command.as_deref().unwrap_or("process")).into()
        }
        Some(HeldBy::Process(process)) => process.command.as_deref().unwrap_or_default().into(),
        // A device says itself what it is.
        Some(HeldBy::Kernel(Kernel { via: "loop", name, .. })) => name.into(),
        Some(HeldBy::Kernel(Kernel { via, name, .. })) => format!("{via} {name}").into(),
        None => "(unknown)".into(),
    }
}

/// The unit, or the container where there is one: the first digits of its id, as its runtime shows it.
fn unit(holder: &Holder) -> &str {
    let Some(HeldBy::Process(process)) = holder.held_by.first() else { return "" };
    if process.via == "socket" {
        // It was only sent there.
        return "";
    }
    let container = process.container.as_deref().map(|id| id.get(..SHORT_ID).unwrap_or(id));
    container.or(process.unit.as_deref()).unwrap_or_default()
}

/// The largest directories, cumulative like du.
pub(super) fn directories(screen: &mut Screen<'_>, filesystem: &Filesystem) {
    let shown: Vec<&Directory> = filesystem.directories.iter().filter(|d| d.bytes > Bytes::ZERO).collect();
    if shown.is_empty() {
        return;
    }
    screen.blank();
    screen.sentence("The largest directories that you can see, with all below them:");
    screen.blank();
    let units = screen.style.units;
    let names = &*screen;
    let row = |directory: &Directory| {
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
