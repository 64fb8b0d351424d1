// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `recover` and `release` say: one sentence for what was done, one for each
//! thing that has to be known besides.

use super::{Screen, Style};
use crate::model::bytes::{Bytes, Gap};
use crate::model::deleted::FileKind;
use crate::model::escape;
use crate::model::methods::{CopyMethod, ReleaseMethod};
use crate::model::skips::Kind;
use crate::report::{Copied, DeletedFile, Holder, Index, Recovered, Released, Saved, Skipped, Via};

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
    let told = index.index.as_deref().map(|index| format!("; {} lists them", screen.path(index)));
    screen.sentence(&format!("Recovered {recovered} of {of} {files}{}.", told.unwrap_or_default()));
    if !index.skipped.is_empty() {
        let skipped = index.skipped.len();
        let is_process = |skipped: &Skipped| skipped.kind == Kind::Process;
        let what = if index.skipped.iter().all(is_process) { "of the processes" } else { "things" };
        screen.sentence(&format!("There may be more: {skipped} {what} could not be inspected."));
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
            "The {bytes} will be freed, and the program goes on writing at the beginning of an empty file. What \
             was in it is lost for good."
        ),
        ReleaseMethod::Unmount => format!(
            "whyfull unmounts that itself and runs no other program. This frees the {bytes}. What was in the file is \
             lost for good."
        ),
    });
    notes(&mut screen, &plan.notes);
    let what = &plan.what;
    let which = match (&plan.filesystem, plan.method) {
        // As a shell takes it: the name may be a user's.
        (Some(path), _) => Some(format!("{what} --filesystem {}", escape::shell_path(path, style.unicode))),
        (None, ReleaseMethod::Unmount) => None,
        (None, _) => Some(format!("{what} --inode {}", file.inode)),
    };
    if let Some(which) = which.filter(|_| file.kind != FileKind::Directory) {
        screen.blank();
        // Not wrapped, so that it can be copied.
        screen.line(&format!("To keep a copy first: sudo whyfull recover {which} DEST"));
    }
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
        None => "df gave no figure".to_owned(),
    };
    let holders: Vec<String> = released.file.held_by.iter().map(|held_by| holder(&screen, held_by)).collect();
    screen.sentence(&format!("Freed {freed} of {name}; {regained}."));
    for holder in holders.iter().filter(|_| released.method != ReleaseMethod::Unmount) {
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

fn name(screen: &Screen<'_>, file: &DeletedFile) -> String {
    file.path.as_deref().map_or_else(|| file.without_name(), |path| screen.path(path))
}

/// `java 1841, descriptor 412, O_WRONLY|O_APPEND (kafka.service)`
fn holder(screen: &Screen<'_>, held_by: &Holder) -> String {
    let process = match held_by {
        Holder::Process(process) => process,
        Holder::Kernel(kernel) => {
            return format!("the kernel: {} {}", kernel.via.word(), screen.name(kernel.name.as_bytes()));
        }
    };
    let command = screen.name(process.command.as_deref().unwrap_or("process").as_bytes());
    let descriptor = process.fd.unwrap_or_default();
    let how = match process.via {
        Via::Fd | Via::IoUring => format!("descriptor {descriptor}"),
        Via::Map => "mapped".to_owned(),
        Via::Exe => "running program".to_owned(),
        Via::Cwd => "cwd".to_owned(),
        Via::Root => "root".to_owned(),
        Via::Socket => format!("queued in a socket, descriptor {descriptor}"),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::model::bytes::Units;
    use crate::model::deleted::{self, DescriptorInfo, Hold, ProcessHolder};
    use crate::model::last_name::LastName;
    use crate::model::open_flags::OpenFlags;
    use crate::model::process::{Membership, Process};
    use crate::report::text::Detail;
    use crate::report::{SCHEMA_VERSION, Tool};

    fn style() -> Style {
        let (units, now) = (Units::Binary, SystemTime::UNIX_EPOCH);
        Style {
            width: 100,
            unicode: true,
            units,
            top: 10,
            directories: false,
            hidden: false,
            detail: Detail::Normal,
            now,
        }
    }

    fn file(path: Option<&str>) -> DeletedFile {
        let membership =
            |unit: Option<&str>| Membership { unit: unit.map(str::to_owned), ..Membership::default() };
        let holder = |via, unit| {
            let command = Some("ja\x1bva".to_owned());
            let process = Process { command, membership: membership(unit), ..Process::default() };
            deleted::Holder::Process(ProcessHolder {
                hold: Hold { pid: 1841, tid: None, via },
                process: Arc::new(process),
            })
        };
        let info = DescriptorInfo { flags: OpenFlags(libc::O_WRONLY | libc::O_APPEND), position: 0 };
        let descriptor = deleted::Via::Descriptor { number: 412, info: Some(info) };
        let file = deleted::DeletedFile {
            inode: 4_063_241,
            bytes: Bytes(34_145_386_496),
            name: path.map_or(LastName::Never, |path| LastName::Told(path.into())),
            held_by: vec![holder(descriptor, Some("kafka.service")), holder(deleted::Via::Mapping, None)],
            ..deleted::DeletedFile::default()
        };
        DeletedFile::from(&file)
    }

    fn copied(method: CopyMethod, notes: &[&str]) -> Copied {
        Copied {
            destination: "/mnt/backup/server.log.3".into(),
            method,
            length_bytes: Bytes(10 << 30),
            copied_bytes: Bytes(256 << 10),
            notes: notes.iter().copied().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn recovered() {
        let (tool, what) = (Tool { name: "whyfull", version: "0" }, "1841:412".to_owned());
        let copied = copied(CopyMethod::Reflink, &["It was truncated to 3 B while it was copied."]);
        let file = file(Some("/var/log/server\n.log.3"));
        let recovered = Recovered { schema_version: SCHEMA_VERSION, tool, what, file, copied };
        insta::assert_snapshot!(render_recovered(&recovered, &style()));
    }

    #[test]
    fn index() {
        let (tool, mountpoint) = (Tool { name: "whyfull", version: "0" }, "/var".into());
        let saved = Saved {
            mountpoint,
            file: file(Some("/var/log/server.log.3")),
            copied: Some(copied(CopyMethod::Copy, &[])),
            error: None,
        };
        let error = Some("/mnt/backup: 2.0 GiB are needed and 1.0 GiB available".to_owned());
        let lost = Saved { file: file(None), copied: None, error, ..saved.clone() };
        let index = Index {
            schema_version: SCHEMA_VERSION,
            tool,
            started: SystemTime::UNIX_EPOCH,
            complete: false,
            interrupted: false,
            index: Some("/mnt/backup/whyfull-index.json".into()),
            files: vec![saved, lost],
            skipped: Vec::new(),
        };
        insta::assert_snapshot!(render_index(&index, &style()));
    }

    #[test]
    fn released_and_before() {
        let (tool, what) = (Tool { name: "whyfull", version: "0" }, "1841:412".to_owned());
        let plan = Released {
            schema_version: SCHEMA_VERSION,
            tool,
            what,
            filesystem: None,
            file: file(Some("/var/log/server.log.3")),
            method: ReleaseMethod::PunchHole,
            done: false,
            freed_bytes: None,
            regained_bytes: None,
            appended_bytes: None,
            notes: vec!["It is mapped by java 1841, which will read zeros from now on.".to_owned()],
        };
        insta::assert_snapshot!("plan", render_plan(&plan, &style()));
        let by_number =
            Released { what: "inode:7".to_owned(), filesystem: Some("/v".into()), ..plan.clone() };
        let advice = "sudo whyfull recover inode:7 --filesystem /v DEST\n";
        assert!(render_plan(&by_number, &style()).ends_with(advice));
        let done = Released {
            freed_bytes: Some(Bytes(34_145_386_496)),
            regained_bytes: Some(Gap(-4096)),
            notes: Vec::new(),
            ..plan
        };
        insta::assert_snapshot!("released", render_released(&done, &style()));
    }
}
