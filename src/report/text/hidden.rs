// SPDX-License-Identifier: MIT OR Apache-2.0

//! What mount points hide, by name.

use super::Screen;
use super::table::{self, Align, column, expendable};
use crate::model::bytes::{Bytes, grouped};
use crate::model::skips::Kind;
use crate::report::{Filesystem, Hidden};

/// More than an empty directory that is mounted on takes up.
const EMPTY: Bytes = Bytes(64 << 10);

/// The mount points that hide most, each with the largest names beneath it.
pub(super) fn list(screen: &mut Screen<'_>, filesystem: &Filesystem) {
    let listed = filesystem.hidden.iter().filter(|hidden| hidden.largest.is_some());
    let (full, empty): (Vec<&Hidden>, Vec<&Hidden>) = listed.partition(|hidden| hides_something(hidden));
    if full.is_empty() {
        return nothing(screen, filesystem, &empty);
    }
    screen.blank();
    screen.sentence("Hidden under mount points:");
    screen.blank();
    let (shown, rest) = full.split_at(screen.style.top.max(1).min(full.len()));
    let columns = [
        column("SIZE", Align::Right),
        expendable("FILES", Align::Right, 1),
        column("MOUNT POINT AND WHAT IT HIDES", Align::GivesWay),
    ];
    let rows: Vec<Vec<String>> = shown.iter().flat_map(|hidden| rows(screen, hidden)).collect();
    table::write(screen, &columns, &rows);
    let rest: Vec<&Hidden> = rest.iter().chain(&empty).copied().collect();
    if !rest.is_empty() {
        let (count, bytes) = (grouped(rest.len() as u64), screen.style.units.format(total(&rest)));
        let noun = if rest.len() == 1 { "mount point" } else { "mount points" };
        screen.line(&format!("  and {count} more {noun}, {bytes} together"));
    }
}

/// A mount point, and indented below it what it hides.
fn rows(screen: &Screen<'_>, hidden: &Hidden) -> Vec<Vec<String>> {
    let row = |bytes, inodes, name: String| vec![screen.style.units.format(bytes), grouped(inodes), name];
    let whole = row(hidden.bytes, hidden.inodes, screen.path(&hidden.mountpoint));
    let largest = hidden.largest.iter().flatten();
    let parts =
        largest.map(|entry| row(entry.bytes, entry.inodes, format!("  {}", screen.path(&entry.path))));
    std::iter::once(whole).chain(parts).collect()
}

/// Says that mount points hide nothing, or that there are none.
fn nothing(screen: &mut Screen<'_>, filesystem: &Filesystem, empty: &[&Hidden]) {
    let bytes = screen.style.units.format(total(empty));
    let sentence = match empty {
        [] if filesystem.skipped.iter().any(|skipped| skipped.kind == Kind::Mount) => return,
        [] => {
            let mountpoint = screen.path(&filesystem.mountpoint);
            format!("Nothing is mounted on {mountpoint}, so nothing is hidden there.")
        }
        [one] => {
            let path = screen.path(&one.mountpoint);
            format!("No files lie under {path}. The directory itself takes up {bytes}.")
        }
        all => {
            let count = grouped(all.len() as u64);
            format!("No files lie under the {count} mount points. Their directories take up {bytes}.")
        }
    };
    screen.blank();
    screen.sentence(&sentence);
}

fn hides_something(hidden: &Hidden) -> bool {
    hidden.largest.as_ref().is_some_and(|largest| !largest.is_empty()) || hidden.bytes > EMPTY
}

fn total(hidden: &[&Hidden]) -> Bytes {
    hidden.iter().map(|hidden| hidden.bytes).sum()
}
