//! What `recover` and `release` say: one sentence for what was done, one for each
//! thing that has to be known besides.

use super::{Screen, Style};
use crate::bytes::{Bytes, Gap};
use crate::report::{
    Copied, CopyMethod, HeldBy, Holder, Index, Recovered, ReleaseMethod, Released, Saved,
};

/// `Recovered 31.8 GiB of /var/log/app.log as /mnt/backup/app.log.`
pub fn render_recovered(recovered: &Recovered, style: &Style) -> String {
    let mut screen = Screen { style, text: String::new() };
    let copy = copy(&screen, &recovered.copied);
    let name = name(&screen, &recovered.file);
    screen.sentence(&format!("Recovered {name} as {copy}."));
    notes(&mut screen, &recovered.copied.notes);
    screen.text
}

/// A line for each file, and what they came to.
pub fn render_index(index: &Index, style: &Style) -> String {
    let mut screen = Screen { style, text: String::new() };
    if index.interrupted {
        screen.sentence("Interrupted: this is what was recovered by then.");
    }
    for Saved { file, copied, error, .. } in &index.files {
        let name = name(&screen, file);
        let line = match (copied, error) {
            (Some(copied), _) => format!("{name}: {}", copy(&screen, copied)),
            (None, error) => {
                format!("{name}: not recovered: {}", error.as_deref().unwrap_or("interrupted"))
            }
        };
        screen.sentence(&line);
        notes(&mut screen, copied.iter().flat_map(|copied| &copied.notes));
    }
    let recovered = index.files.iter().filter(|file| file.copied.is_some()).count();
    let of = index.files.len();
    let files = if of == 1 { "deleted file" } else { "deleted files" };
    screen.sentence(&format!(
        "Recovered {recovered} of {of} {files}; {} tells of each.",
        screen.path(&index.index)
    ));
    if !index.skipped.is_empty() {
        let skipped = index.skipped.len();
        screen.sentence(&format!("There may be more: {skipped} of the processes could not be looked into."));
    }
    screen.text
}

/// What will be done, before anybody is asked.
pub fn render_plan(plan: &Released, style: &Style) -> String {
    let mut screen = Screen { style, text: String::new() };
    let file = &plan.file;
    let (name, bytes) = (name(&screen, file), style.units.format(file.bytes));
    screen.sentence(&format!("{name} (inode {}, deleted) occupies {bytes}.", file.inode));
    for held_by in &file.held_by {
        let holder = holder(&screen, held_by);
        screen.line(&format!("  held by {holder}"));
    }
    screen.blank();
    screen.sentence(&match plan.method {
        ReleaseMethod::PunchHole => format!(
            "The {bytes} will be freed, the program runs on, and the file keeps its size and reads as zeros. What \
             was in it is lost for good."
        ),
        ReleaseMethod::Truncate => format!(
            "The {bytes} will be freed, and the program writes on at the beginning of an empty file. What was in \
             it is lost for good."
        ),
    });
    notes(&mut screen, &plan.notes);
    screen.sentence(&format!(
        "To keep a copy first: sudo whyfull recover {} --inode {} DEST",
        plan.what, file.inode
    ));
    screen.text
}

/// `Freed 31.8 GiB of /var/log/app.log; df regained 31.8 GiB.`
pub fn render_released(released: &Released, style: &Style) -> String {
    let mut screen = Screen { style, text: String::new() };
    let name = name(&screen, &released.file);
    let freed = style.units.format(released.freed_bytes.unwrap_or(Bytes::ZERO));
    let regained = match released.regained_bytes {
        Some(regained) if regained < Gap(0) => {
            format!("df shows {} more in use", style.units.format(regained.magnitude()))
        }
        Some(regained) => format!("df regained {}", style.units.format(regained.magnitude())),
        None => "df was not to be had".to_owned(),
    };
    let holders: Vec<String> = released.file.held_by.iter().map(|held_by| holder(&screen, held_by)).collect();
    screen.sentence(&format!("Freed {freed} of {name}; {regained}."));
    for holder in holders {
        screen.line(&format!("  still held by {holder}"));
    }
    notes(&mut screen, &released.notes);
    screen.text
}

/// `/mnt/backup/app.log (31.8 GiB, copied)`
fn copy(screen: &Screen<'_>, copied: &Copied) -> String {
    let how = match copied.method {
        CopyMethod::Reflink => "shares its blocks",
        CopyMethod::Copy => "copied",
    };
    let units = screen.style.units;
    let length = units.format(copied.length_bytes);
    let data = units.format(copied.copied_bytes);
    let holes = copied.copied_bytes < copied.length_bytes && data != length;
    let holes = if holes { format!(" long with {data} of data") } else { String::new() };
    format!("{} ({length}{holes}, {how})", screen.path(&copied.destination))
}

fn name(screen: &Screen<'_>, file: &Holder) -> String {
    let never_named = || format!("(never named) inode {}", file.inode);
    file.path.as_deref().map_or_else(never_named, |path| screen.path(path))
}

/// `java 1841, descriptor 412, O_WRONLY|O_APPEND (kafka.service)`
fn holder(screen: &Screen<'_>, held_by: &HeldBy) -> String {
    let process = match held_by {
        HeldBy::Process(process) => process,
        HeldBy::Kernel(kernel) => {
            return format!("the kernel: {} {}", kernel.via, screen.name(kernel.name.as_bytes()));
        }
    };
    let command = screen.name(process.command.as_deref().unwrap_or("process").as_bytes());
    let how = match process.via {
        "map" => "mapped".to_owned(),
        "exe" => "running program".to_owned(),
        via => process.fd.map_or_else(|| via.to_owned(), |fd| format!("descriptor {fd}")),
    };
    let flags = process.flags.as_deref().map(|flags| format!(", {flags}")).unwrap_or_default();
    let unit = process.unit.as_deref();
    let unit = unit.map(|unit| format!(" ({})", screen.name(unit.as_bytes()))).unwrap_or_default();
    format!("{command} {}, {how}{flags}{unit}", process.pid)
}

fn notes<'a>(screen: &mut Screen<'_>, notes: impl IntoIterator<Item = &'a String>) {
    for note in notes {
        screen.sentence(&format!("Note: {note}"));
    }
}
