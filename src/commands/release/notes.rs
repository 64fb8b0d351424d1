//! What a user has to know before and after, in sentences. Pure.

use crate::model::bytes::{Bytes, Gap, Units};
use crate::model::escape;
use crate::report::{HeldBy, Holder, Process, ReleaseMethod};

/// What to say before it is done, where `unseen` processes could not be looked into.
pub(super) fn of(file: &Holder, method: ReleaseMethod, unseen: usize) -> Vec<String> {
    let flagged = |flag: &str| processes(file).any(|process| has_flag(process, flag));
    let mut notes = Vec::new();
    if file.bytes == Bytes::ZERO {
        notes.push("It occupies nothing: there is nothing to be freed.".to_owned());
    }
    if flagged("O_RDWR") {
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
    if method == ReleaseMethod::Truncate && processes(file).filter(|process| process.fd.is_some()).count() > 1
    {
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
pub(super) fn mapped_by(file: &Holder) -> Option<String> {
    let mapped = processes(file).filter(|process| process.via == "map");
    let names: Vec<String> = mapped.map(name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The first process that holds it: `postgres 22710`.
pub(super) fn process(file: &Holder) -> Option<String> {
    processes(file).next().map(name)
}

/// What in the kernel holds it: `loop /dev/loop3`.
pub(super) fn kernel(file: &Holder) -> Option<String> {
    file.held_by.iter().find_map(|held_by| match held_by {
        HeldBy::Process(_) => None,
        HeldBy::Kernel(kernel) => Some(format!("{} {}", kernel.via, escape::bytes(kernel.name.as_bytes()))),
    })
}

fn name(process: &Process) -> String {
    let command = process.command.as_deref().unwrap_or("process");
    format!("{} {}", escape::bytes(command.as_bytes()), process.pid)
}

fn has_flag(process: &Process, flag: &str) -> bool {
    process.flags.as_deref().is_some_and(|flags| flags.split('|').any(|name| name == flag))
}

fn processes(file: &Holder) -> impl Iterator<Item = &Process> {
    file.held_by.iter().filter_map(|held_by| match held_by {
        HeldBy::Process(process) => Some(process),
        HeldBy::Kernel(_) => None,
    })
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
    use super::*;

    fn held(processes: &[(&'static str, Option<u32>, &str)]) -> Holder {
        let process = |&(via, fd, flags): &(&'static str, Option<u32>, &str)| {
            HeldBy::Process(Process { pid: 7, via, fd, flags: Some(flags.to_owned()), ..Process::default() })
        };
        Holder { bytes: Bytes(1), held_by: processes.iter().map(process).collect(), ..Holder::default() }
    }

    #[test]
    fn a_log_writer_alone_gives_no_cause_for_concern() {
        let log = held(&[("fd", Some(1), "O_WRONLY|O_APPEND")]);
        assert_eq!(of(&log, ReleaseMethod::PunchHole, 0), Vec::<String>::new());
        assert_eq!(of(&log, ReleaseMethod::Truncate, 0), Vec::<String>::new());
    }

    #[test]
    fn what_occupies_nothing_is_told() {
        let log = Holder { bytes: Bytes::ZERO, ..held(&[("fd", Some(1), "O_WRONLY")]) };
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
        let notes = |file: &Holder, method| of(file, method, 0).join(" ");
        let database = held(&[("fd", Some(1), "O_RDWR|O_CLOEXEC"), ("map", None, "")]);
        assert!(notes(&database, ReleaseMethod::PunchHole).contains("database"));
        assert!(notes(&database, ReleaseMethod::PunchHole).contains("process 7, which will read zeros"));
        assert!(notes(&database, ReleaseMethod::Truncate).contains("SIGBUS"));
        let shared = held(&[("fd", Some(1), "O_WRONLY"), ("fd", Some(2), "O_WRONLY")]);
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
