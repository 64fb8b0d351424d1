// SPDX-License-Identifier: MIT OR Apache-2.0

//! The screen: one question, one answer, then who and what to do. Pure: from the
//! report to text with styles, which the output strips where they do not belong.

mod actions;
mod deleted;
mod device;
mod hidden;
mod layout;
mod remedies;
mod rows;
mod skips;
mod table;
mod tables;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use anstyle::{AnsiColor, Style as Ansi};

use super::{Capacity, DeletedFile, Filesystem, Finding, Holder, Report, Skipped};
use crate::model::bytes::{Bytes, Gap, Units, grouped};
use crate::model::escape;
use crate::model::findings::FindingCode;
use crate::model::ledger::Cause;
use crate::model::skips::Kind;
use crate::model::traits::ReservedFor;
use layout::{elapsed, wrap};

/// How the screen is to look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Whether the terminal shows more than ASCII.
    pub unicode: bool,
    /// How amounts are written.
    pub units: Units,
    /// At most this many holders.
    pub top: usize,
    /// Whether to list the largest directories.
    pub directories: bool,
    /// Whether to list what mount points hide.
    pub hidden: bool,
    /// How much to tell of what was skipped.
    pub detail: Detail,
    /// From when to count "2 s ago".
    pub now: SystemTime,
}

/// How much to tell of what was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Quiet,
    /// How much, and how to see it.
    Normal,
    /// Each thing.
    Verbose,
}

/// For the row that matters most.
const LOUD: Ansi = AnsiColor::Red.on_default().bold();
/// For headings and notes.
const QUIET: Ansi = Ansi::new().dimmed();
/// For mount points.
const STRONG: Ansi = Ansi::new().bold();

/// Below this share of `used` a gap is nothing to write home about: one in so many.
const NEGLIGIBLE_PART: u64 = 200;
/// As is one of that many bytes, which a filesystem keeps for itself however small it is.
const NEGLIGIBLE: Bytes = Bytes(1 << 20);
/// A gap of that many bytes is worth a look however large the disk.
const NEVER_NEGLIGIBLE: Bytes = Bytes(1 << 30);
/// Below this share of the size, free space is scarce: one in so many.
const SCARCE_PART: u64 = 10;

/// The whole screen.
pub fn render(report: &Report, style: &Style) -> String {
    let mut screen = Screen { style, text: String::new() };
    if report.run.interrupted {
        screen.sentence("Interrupted: this is what was known by then.");
        screen.blank();
    }
    let alone = report.filesystems.len() == 1;
    for filesystem in &report.filesystems {
        screen.filesystem(filesystem, report, alone);
    }
    if !alone {
        if style.detail != Detail::Quiet {
            skips::of_processes(&mut screen, &report.filesystems, report.run.as_root);
        }
        screen.sentence(&totals(report));
    }
    screen.text
}

pub use actions::{render_index, render_plan, render_recovered, render_released};
pub use deleted::render as render_deleted;

struct Screen<'a> {
    style: &'a Style,
    text: String,
}

impl Screen<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// An empty line, unless there is one already.
    fn blank(&mut self) {
        if !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// A path that stays on its line and in the terminal's characters.
    fn path(&self, path: &Path) -> String {
        self.name(path.as_os_str().as_bytes())
    }

    /// The same for any name.
    fn name(&self, name: &[u8]) -> String {
        let name = escape::bytes(name);
        if self.style.unicode { name } else { escape::ascii(&name) }
    }

    fn sentence(&mut self, text: &str) {
        for line in wrap(text, self.style.width) {
            self.line(&line);
        }
    }

    fn filesystem(&mut self, filesystem: &Filesystem, report: &Report, alone: bool) {
        if let Some(skipped) = filesystem.skipped.iter().find(|skipped| skipped.kind == Kind::Filesystem)
            && filesystem.capacity.size_bytes == Bytes::ZERO
        {
            self.unreachable(filesystem, skipped.errno.as_deref());
            return;
        }
        for finding in &filesystem.findings {
            let mountpoint = self.path(&filesystem.mountpoint);
            let unicode = self.style.unicode;
            // Names in it are escaped already.
            let message = if unicode { finding.message.clone() } else { escape::ascii(&finding.message) };
            self.sentence(&format!("{mountpoint}: {message}"));
        }
        self.header(filesystem);
        self.blank();
        let verdict = self.body(filesystem);
        if self.style.directories {
            tables::directories(self, filesystem);
        }
        if self.style.hidden {
            hidden::list(self, filesystem);
        }
        if self.style.detail != Detail::Quiet {
            skips::of_filesystem(self, filesystem, alone, report.run.as_root);
        }
        let is_incomplete = filesystem.skipped.iter().any(|skipped| skipped.matters);
        let totals = (alone && (is_incomplete || verdict.is_some())).then(|| totals(report));
        let footer: Vec<String> = verdict.into_iter().chain(totals).filter(|part| !part.is_empty()).collect();
        if !footer.is_empty() {
            self.blank();
            self.sentence(&footer.join(" "));
        }
        if self.style.detail == Detail::Verbose {
            device::write(self, filesystem);
            if let Some(note) = &filesystem.method_note {
                self.blank();
                self.sentence(&format!("Counted by walking through all names, which takes longer than reading the inode tables: {note}."));
            }
            if let Some(note) = &filesystem.unconfined_note {
                self.blank();
                self.sentence(&format!("The threads that read its inode tables are not confined: {note}."));
            }
            skips::list(self, &filesystem.skipped);
        }
        if !alone {
            self.blank();
        }
    }

    /// The answer. Returns how much it explains, where there is something to explain.
    fn body(&mut self, filesystem: &Filesystem) -> Option<String> {
        if filesystem.capacity.size_bytes == Bytes::ZERO && filesystem.capacity.used_bytes == Bytes::ZERO {
            let visible = self.style.units.format(filesystem.visible_bytes);
            self.sentence(&format!("The files you can see add up to {visible}."));
            held_open(self, filesystem);
            return None;
        }
        if is_healthy(filesystem) {
            self.healthy(filesystem);
            return None;
        }
        rows::write(self, filesystem);
        held_open(self, filesystem);
        remedies::write(self, filesystem);
        Some(explained(filesystem, self.style.units))
    }

    /// `/  ext4 on /dev/sda1  94.0 of 100.0 GiB used  (1.0 GiB free, 5.0 GiB reserved for root)`
    fn header(&mut self, filesystem: &Filesystem) {
        let Capacity { size_bytes, used_bytes, available_bytes, reserved_bytes, .. } = filesystem.capacity;
        let units = self.style.units;
        let scale = units.scale_of(size_bytes);
        let used = if units.scale_of(used_bytes) == scale {
            scale.number(scale.steps(Gap::from(used_bytes)))
        } else {
            units.format(used_bytes)
        };
        let mut free = format!("{} free", units.format(available_bytes));
        if reserved_bytes > Bytes::ZERO {
            let whom = match filesystem.traits.reserved_for {
                ReservedFor::Root => format!(" for {}", filesystem.capacity.reserved_for()),
                ReservedFor::Filesystem => String::new(),
            };
            free = format!("{free}, {} reserved{whom}", units.format(reserved_bytes));
        }
        let size = scale.format(size_bytes);
        let amounts = if size_bytes == Bytes::ZERO {
            // Such as a tmpfs without a limit.
            "does not report its size".to_owned()
        } else {
            format!("{used} of {size} used  ({free})")
        };
        let line = format!("{}  {amounts}", self.identity(filesystem));
        self.titled(&line, filesystem);
        if let Some(overlay) = &filesystem.overlay {
            let (mountpoint, upper) = (self.path(&overlay.mountpoint), self.path(&overlay.path));
            let take = overlay.upper_bytes.map(|bytes| {
                let files = overlay.upper_inodes.unwrap_or(0);
                let noun = if files == 1 { "file" } else { "files" };
                format!(" They take up {} in {} {noun}.", units.format(bytes), grouped(files))
            });
            let take = take.unwrap_or_default();
            self.sentence(&format!(
                "The overlay at {mountpoint} stores nothing itself: its files are on this filesystem, in {upper}.{take}"
            ));
        }
    }

    /// A line that starts with the mount point, which is set off.
    fn titled(&mut self, line: &str, filesystem: &Filesystem) {
        let mountpoint = self.path(&filesystem.mountpoint);
        for (index, line) in wrap(line, self.style.width).iter().enumerate() {
            let bold = line.strip_prefix(&mountpoint).filter(|_| index == 0);
            match bold {
                Some(rest) => self.line(&format!("{STRONG}{mountpoint}{STRONG:#}{rest}")),
                None => self.line(line),
            }
        }
    }

    fn healthy(&mut self, filesystem: &Filesystem) {
        let units = self.style.units;
        let visible = units.format(filesystem.visible_bytes);
        let used = units.format(filesystem.capacity.used_bytes);
        self.sentence(&format!("Nothing is missing: the files you can see add up to {visible} of {used}."));
        let Capacity { size_bytes, available_bytes, .. } = filesystem.capacity;
        if available_bytes.0 < size_bytes.0 / SCARCE_PART && !self.style.directories {
            self.sentence("Add --dirs 10 to list the largest directories.");
        }
    }

    fn unreachable(&mut self, filesystem: &Filesystem, errno: Option<&str>) {
        let why = match errno {
            Some("ETIMEDOUT") => "did not answer in time and was skipped".to_owned(),
            Some("ENOENT") => "is covered by another mount; no path leads to it".to_owned(),
            Some("EACCES") => "is in a directory that you may not enter".to_owned(),
            other => format!("could not be examined ({})", other.unwrap_or("no reason given")),
        };
        self.titled(&format!("{}  {why}", self.identity(filesystem)), filesystem);
        self.blank();
    }

    /// `/  ext4 on /dev/sda1`
    fn identity(&self, filesystem: &Filesystem) -> String {
        let (mountpoint, source) = (self.path(&filesystem.mountpoint), self.path(&filesystem.source));
        let fstype = self.name(filesystem.fstype.as_bytes());
        if filesystem.traits.is_in_memory() {
            format!("{mountpoint}  {fstype}, in memory")
        } else {
            format!("{mountpoint}  {fstype} on {source}")
        }
    }
}

/// Deleted files that are still held, the largest first.
fn held_open(screen: &mut Screen<'_>, filesystem: &Filesystem) {
    let deleted = &filesystem.deleted;
    if deleted.iter().any(|file| file.bytes > Bytes::ZERO) {
        screen.blank();
        let by_process = |file: &DeletedFile| matches!(file.held_by.first(), Some(Holder::Process(_)));
        let who =
            if deleted.iter().all(by_process) { "that a process still holds" } else { "that are still held" };
        screen.sentence(&format!("Deleted files {who}:"));
        screen.blank();
        tables::deleted(screen, deleted, None);
        tables::unattributed(screen, deleted, &filesystem.unattributed_reasons);
    }
    tables::subvolumes(screen, deleted);
}

/// Whether there is nothing to explain: the gap is negligible, and so is each row in it.
fn is_healthy(filesystem: &Filesystem) -> bool {
    let part = Bytes(filesystem.capacity.used_bytes.0 / NEGLIGIBLE_PART).min(NEVER_NEGLIGIBLE);
    let negligible = |gap: Gap, part: Bytes| gap.magnitude() <= part.max(NEGLIGIBLE);
    let rows = filesystem.ledger.iter().filter(|row| row.cause != Cause::Visible);
    let held = filesystem.deleted.iter().map(|file| Gap::from(file.bytes));
    let has_wrong_counters = |finding: &Finding| finding.code == FindingCode::CountersWrong;
    !filesystem.findings.iter().any(has_wrong_counters)
        && negligible(filesystem.gap_bytes, part)
        && rows.map(|row| row.bytes).all(|bytes| negligible(bytes, part))
        && held.into_iter().all(|bytes| negligible(bytes, Bytes::ZERO))
}

/// How much of the gap the measured rows account for: in percent, rounded down, or what is left
/// where that is next to nothing.
fn explained(filesystem: &Filesystem, units: Units) -> String {
    if filesystem.gap_bytes < Gap(0) {
        // Of more files than space no part can be said to be explained.
        return String::new();
    }
    let rest = filesystem.ledger.iter().find(|row| row.cause == Cause::Unexplained);
    let rest = rest.map_or(Bytes::ZERO, |row| row.bytes.magnitude());
    if rest == Bytes::ZERO {
        return "All explained, to the byte.".to_owned();
    }
    let gap = u128::from(filesystem.gap_bytes.magnitude().0);
    let percent = (gap.saturating_sub(u128::from(rest.0)) * 100).checked_div(gap).unwrap_or(0);
    if percent == 99 {
        format!("All but {} explained.", units.format(rest))
    } else {
        format!("{percent} % explained.")
    }
}

/// `Read 1,204,311 files and 412 processes in 3.2 s; nothing was skipped.`
fn totals(report: &Report) -> String {
    let files: u64 = report
        .filesystems
        .iter()
        .flat_map(|filesystem| &filesystem.ledger)
        .filter(|row| matches!(row.cause, Cause::Visible | Cause::HiddenByMount | Cause::OutsideMount))
        .filter_map(|row| row.inodes)
        .sum();
    let processes = report.filesystems.iter().map(|filesystem| filesystem.processes_read).max().unwrap_or(0);
    let end = what_was_skipped(report.filesystems.iter().flat_map(|filesystem| &filesystem.skipped));
    let files = format!("{} {}", grouped(files), if files == 1 { "file" } else { "files" });
    let noun = Kind::Process.noun(usize::try_from(processes).unwrap_or(usize::MAX));
    // None need be read where the filesystem itself says that nothing is held.
    let processes =
        if processes == 0 { String::new() } else { format!(" and {} {noun}", grouped(processes)) };
    format!("Read {files}{processes} in {}; {end}.", elapsed(report.run.elapsed_ms))
}

/// Ends the last sentence.
fn what_was_skipped<'a>(skipped: impl Iterator<Item = &'a Skipped>) -> &'static str {
    match skipped.map(|skipped| skipped.matters).max() {
        None => "nothing was skipped",
        Some(false) => "nothing that matters was skipped",
        Some(true) => "see --verbose for what was skipped",
    }
}

#[cfg(test)]
mod absurd;
#[cfg(test)]
mod tests;
