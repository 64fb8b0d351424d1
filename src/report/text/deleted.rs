// SPDX-License-Identifier: MIT OR Apache-2.0

//! The screen of the command `deleted`: what is held, on disk or in memory, by whom.

use std::collections::BTreeMap;
use std::time::Duration;

use super::layout::elapsed;
use super::table::{self, Align, column};
use super::{Detail, Screen, Style, skips, tables, what_was_skipped};
use crate::model::bytes::{Bytes, grouped};
use crate::model::deleted::Reason;
use crate::model::skips::Kind;
use crate::report::{Deleted, HeldOn, Skipped, UnattributedReason};

/// The whole screen.
pub fn render(report: &Deleted, style: &Style) -> String {
    let mut screen = Screen { style, text: String::new() };
    screen.sentence(&summary(report, style));
    let interval = report.interval_ms.map(Duration::from_millis);
    if report.deleted.iter().any(|file| file.bytes > Bytes::ZERO) {
        screen.sentence("du does not count them; df counts them until the last holder closes them.");
        screen.blank();
        if report.sums.is_empty() {
            tables::deleted(&mut screen, &report.deleted, interval);
            tables::unattributed(&mut screen, &report.deleted, &reasons(report));
        } else {
            sums(&mut screen, report);
        }
        filesystems(&mut screen, report);
    }
    tables::subvolumes(&mut screen, &report.deleted);
    if style.detail != Detail::Quiet {
        let skipped: Vec<&Skipped> = report.skipped.iter().filter(|skipped| skipped.matters).collect();
        let (processes_read, as_root) = (report.processes_read, report.run.as_root);
        skips::write(
            &mut screen,
            &skipped,
            &skips::Context { processes_read, as_root, command: "whyfull deleted" },
        );
    }
    screen.blank();
    screen.sentence(&footer(report));
    if style.detail == Detail::Verbose {
        skips::list(&mut screen, &report.skipped);
    }
    screen.text
}

/// `2 deleted files are still held: 1.6 GiB on disk.`
fn summary(report: &Deleted, style: &Style) -> String {
    let amount = |in_memory: bool| -> Bytes {
        let matching = report.filesystems.iter().filter(|filesystem| filesystem.in_memory == in_memory);
        matching.map(|filesystem| filesystem.bytes).sum()
    };
    let (on_disk, in_memory) = (amount(false), amount(true));
    let count = report.deleted.len() as u64;
    let places = report.filesystems.len() as u64;
    let amounts = match (on_disk > Bytes::ZERO, in_memory > Bytes::ZERO) {
        (true, true) => {
            format!("{} on disk and {} in memory", style.units.format(on_disk), style.units.format(in_memory))
        }
        (false, true) => format!("{} in memory, none on disk", style.units.format(in_memory)),
        _ => format!("{} on disk", style.units.format(on_disk)),
    };
    match count {
        0 if places == 1 => "No deleted file is held on this filesystem.".to_owned(),
        0 => format!("No deleted file is held on any of {} filesystems.", grouped(places)),
        1 => format!("1 deleted file is still held: {amounts}."),
        _ => format!("{} deleted files are still held: {amounts}.", grouped(count)),
    }
}

/// What may hold those without a known holder: processes, sockets and the like are the same for all
/// filesystems.
fn reasons(report: &Deleted) -> Vec<UnattributedReason> {
    let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
    for UnattributedReason { reason, count } in
        report.filesystems.iter().flat_map(|on| &on.unattributed_reasons)
    {
        let most = counts.entry(*reason).or_default();
        *most = (*most).max(*count);
    }
    counts.into_iter().map(|(reason, count)| UnattributedReason { reason, count }).collect()
}

/// What each process or unit holds.
fn sums(screen: &mut Screen<'_>, report: &Deleted) {
    let style = screen.style;
    let names = &*screen;
    let rows: Vec<Vec<String>> = report
        .sums
        .iter()
        .take(style.top)
        .map(|sum| {
            let pid = sum.pid.map(|pid| pid.to_string()).unwrap_or_default();
            let command = tables::short(names, sum.command.as_deref().unwrap_or_default());
            let unit = match sum.kernel {
                Some(via) => format!("(kernel: {})", via.word()),
                None => names.name(sum.unit.as_deref().unwrap_or("(no unit)").as_bytes()),
            };
            vec![style.units.format(sum.bytes), grouped(sum.inodes), pid, command, unit]
        })
        .collect();
    let by_process = report.sums.iter().any(|sum| sum.pid.is_some() || sum.command.is_some());
    let columns = [
        column("SIZE", Align::Right),
        column("FILES", Align::Right),
        column(if by_process { "PID" } else { "" }, Align::Right),
        column(if by_process { "PROCESS" } else { "" }, Align::Left),
        column("UNIT", Align::GivesWay),
    ];
    table::write(screen, &columns, &rows);
}

/// Where they are, if there is more than one place.
fn filesystems(screen: &mut Screen<'_>, report: &Deleted) {
    let held: Vec<&HeldOn> = report.filesystems.iter().filter(|on| on.inodes > 0).collect();
    if held.len() < 2 {
        return;
    }
    let style = screen.style;
    screen.blank();
    let names = &*screen;
    let row = |on: &&HeldOn| {
        let medium = if on.in_memory { "in memory" } else { "on disk" };
        let amount = style.units.format(on.bytes);
        vec![amount, grouped(on.inodes), medium.to_owned(), names.path(&on.mountpoint)]
    };
    let rows: Vec<Vec<String>> = held.iter().map(row).collect();
    let columns = [
        column("SIZE", Align::Right),
        column("FILES", Align::Right),
        column("", Align::Left),
        column("FILESYSTEM", Align::GivesWay),
    ];
    table::write(screen, &columns, &rows);
}

fn footer(report: &Deleted) -> String {
    let processes = report.processes_read;
    let noun = Kind::Process.noun(usize::try_from(processes).unwrap_or(usize::MAX));
    let end = what_was_skipped(report.skipped.iter());
    let time = elapsed(report.run.elapsed_ms);
    if processes == 0 {
        return format!("The filesystems list no deleted files, so no process was read; {time}.");
    }
    format!("Read {} {noun} in {time}; {end}.", grouped(processes))
}
