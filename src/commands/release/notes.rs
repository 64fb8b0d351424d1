// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a user has to know before and after, in sentences. Pure.

use crate::model::bytes::{Bytes, Gap, Units};
use crate::model::deleted::{DeletedFile, ProcessHolder, Via};
use crate::model::escape;
use crate::model::methods::ReleaseMethod;

/// What to say before it is done, where `unseen` processes could not be looked into.
pub(super) fn of(file: &DeletedFile, method: ReleaseMethod, unseen: usize) -> Vec<String> {
    let reads_and_writes =
        |holder: &ProcessHolder| holder.hold.via.info().is_some_and(|info| info.flags.reads_and_writes());
    let mut notes = Vec::new();
    if file.bytes == Bytes::ZERO {
        notes.push("It occupies nothing: there is nothing to be freed.".to_owned());
    }
    if file.processes().any(reads_and_writes) {
        notes.push(
            "It is open for reading and writing: a database or a temporary file may still need what is in it."
                .to_owned(),
        );
    }
    if let Some(by) = mapped_by(file) {
        notes.push(match method {
            ReleaseMethod::PunchHole | ReleaseMethod::Unmount => {
                format!("It is mapped by {by}, which will read zeros from now on.")
            }
            ReleaseMethod::Truncate => format!("It is mapped by {by}, which will be killed (SIGBUS)."),
        });
    }
    let descriptors = file.processes().filter(|holder| holder.hold.via.descriptor().is_some()).count();
    if method == ReleaseMethod::Truncate && descriptors > 1 {
        notes.push(
            "Several descriptors lead to it. Those that were opened separately keep their offsets: a write \
             there makes the file long again, with a hole before the new data."
                .to_owned(),
        );
    }
    if file.held_by.is_empty() {
        notes.push(
            "No process was found that holds it. The kernel or a hidden program may hold it.".to_owned(),
        );
    }
    if unseen > 0 {
        notes.push(format!("{unseen} of the processes could not be inspected and may hold it, too."));
    }
    notes
}

/// Who has it mapped: `postgres 22710 and 22711`.
pub(super) fn mapped_by(file: &DeletedFile) -> Option<String> {
    let mapped = file.processes().filter(|holder| holder.hold.via == Via::Mapping);
    let names: Vec<String> = mapped.map(name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The first process that holds it: `postgres 22710`.
pub(super) fn process(file: &DeletedFile) -> Option<String> {
    file.processes().next().map(name)
}

/// What in the kernel holds it: `loop /dev/loop3`.
pub(super) fn kernel(file: &DeletedFile) -> Option<String> {
    let kernel = file.kernel().next()?;
    Some(format!("{} {}", kernel.via.word(), escape::bytes(kernel.name.as_bytes())))
}

fn name(holder: &ProcessHolder) -> String {
    let command = holder.process.command.as_deref().unwrap_or("process");
    format!("{} {}", escape::bytes(command.as_bytes()), holder.hold.pid)
}

/// What to say of what has come since the plan, and where therefore it was done in another way.
pub(super) fn on_growth(appended: Bytes, is_as_asked: bool) -> Vec<String> {
    if appended == Bytes::ZERO {
        return Vec::new();
    }
    let how = if is_as_asked { "" } else { ", and it was not truncated but got a hole" };
    let appended = Units::Binary.format(appended);
    vec![format!("{appended} more have come since it was looked at: only what was shown was freed{how}.")]
}

/// What to say when df does not show what the file let go of, or when the file still has blocks.
pub(super) fn on_result(freed: Bytes, regained: Option<Gap>, left: Bytes) -> Vec<String> {
    let mut notes = Vec::new();
    match regained {
        None => notes.push("The filesystem does not report how much of it is used.".to_owned()),
        Some(regained) if regained < Gap::from(freed) => notes.push(
            "df shows less than that: others have written meanwhile, blocks are shared with a snapshot or a \
             copy, or the filesystem is still freeing."
                .to_owned(),
        ),
        Some(regained) if regained > Gap::from(freed) => {
            notes.push(
                "df shows more than that: the filesystem's records of these blocks are gone, too, or others have \
                 freed space meanwhile."
                    .to_owned(),
            );
        }
        Some(_) => {}
    }
    if left > Bytes::ZERO {
        let left = Units::Binary.format(left);
        notes.push(format!(
            "The file still occupies {left}: new data, or the filesystem's own records of it."
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::deleted::{DescriptorInfo, Hold, Holder};
    use crate::model::open_flags::OpenFlags;

    fn held(ways: &[Via]) -> DeletedFile {
        let process = |&via: &Via| {
            let hold = Hold { pid: 7, tid: None, via };
            Holder::Process(ProcessHolder { hold, process: Arc::default() })
        };
        DeletedFile { bytes: Bytes(1), held_by: ways.iter().map(process).collect(), ..DeletedFile::default() }
    }

    fn opened(number: u32, flags: i32) -> Via {
        Via::Descriptor { number, info: Some(DescriptorInfo { flags: OpenFlags(flags), position: 0 }) }
    }

    #[test]
    fn a_log_writer_alone_gives_no_cause_for_concern() {
        let log = held(&[opened(1, libc::O_WRONLY | libc::O_APPEND)]);
        assert_eq!(of(&log, ReleaseMethod::PunchHole, 0), Vec::<String>::new());
        assert_eq!(of(&log, ReleaseMethod::Truncate, 0), Vec::<String>::new());
    }

    #[test]
    fn what_occupies_nothing_is_told() {
        let log = DeletedFile { bytes: Bytes::ZERO, ..held(&[opened(1, libc::O_WRONLY)]) };
        assert_eq!(
            of(&log, ReleaseMethod::PunchHole, 0),
            ["It occupies nothing: there is nothing to be freed."]
        );
    }

    #[test]
    fn what_has_come_since_is_told() {
        assert_eq!(on_growth(Bytes::ZERO, true), Vec::<String>::new());
        assert!(on_growth(Bytes(2048), true)[0].starts_with("2.0 KiB more have come since"));
        assert!(on_growth(Bytes(2048), false)[0].ends_with("was not truncated but got a hole."));
    }

    #[test]
    fn whatever_may_be_harmed_is_told() {
        let notes = |file: &DeletedFile, method| of(file, method, 0).join(" ");
        let database = held(&[opened(1, libc::O_RDWR | libc::O_CLOEXEC), Via::Mapping]);
        assert!(notes(&database, ReleaseMethod::PunchHole).contains("database"));
        assert!(notes(&database, ReleaseMethod::PunchHole).contains("process 7, which will read zeros"));
        assert!(notes(&database, ReleaseMethod::Truncate).contains("SIGBUS"));
        let shared = held(&[opened(1, libc::O_WRONLY), opened(2, libc::O_WRONLY)]);
        assert!(notes(&shared, ReleaseMethod::Truncate).contains("offsets"));
        assert!(notes(&held(&[]), ReleaseMethod::PunchHole).contains("No process"));
        assert!(of(&shared, ReleaseMethod::PunchHole, 3).join(" ").contains("3 of the processes"));
    }

    #[test]
    fn df_is_compared_with_what_the_file_let_go_of() {
        let (freed, none) = (Bytes(10), Bytes::ZERO);
        assert_eq!(on_result(freed, Some(Gap(10)), none), Vec::<String>::new());
        assert!(on_result(freed, Some(Gap(9)), none)[0].contains("less"));
        assert!(on_result(freed, Some(Gap(11)), none)[0].contains("more"));
        assert!(on_result(freed, Some(Gap(10)), Bytes(4096))[0].contains("4.0 KiB"));
    }
}
