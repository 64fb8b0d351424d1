//! What is known of programs: which of them open their logs anew on a signal, and
//! what must not be taken from under whom.

use std::ffi::OsStr;
use std::path::Path;

use crate::report::{HeldBy, Holder, Process};

/// A daemon that opens its logs anew when it gets a signal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reopener {
    /// As in /proc/PID/comm.
    command: &'static str,
    pub(super) signal: &'static str,
    /// Whether every process that has a log open takes the signal so, not only the daemon's main one.
    pub(super) all_take_it: bool,
}

/// Only what the manuals promise.
const REOPENERS: [Reopener; 5] = [
    // rsyslogd(8), SIGNALS: HUP closes all open files.
    Reopener { command: "rsyslogd", signal: "HUP", all_take_it: true },
    // syslog-ng(8): HUP reloads the configuration, and with it all destinations.
    Reopener { command: "syslog-ng", signal: "HUP", all_take_it: true },
    // nginx.org/en/docs/control.html: USR1 opens log files anew; workers take it, too.
    Reopener { command: "nginx", signal: "USR1", all_take_it: true },
    // httpd.apache.org/docs/current/stopping.html: USR1 is "graceful". A child that gets it ends.
    Reopener { command: "apache2", signal: "USR1", all_take_it: false },
    Reopener { command: "httpd", signal: "USR1", all_take_it: false },
];

/// The daemon that alone holds a file as a log: only to write to it.
pub(super) fn reopener(processes: &[&Process]) -> Option<&'static Reopener> {
    let command = processes.first()?.command.as_deref()?;
    let is_log = |process: &&Process| {
        let flags = process.flags.as_deref().unwrap_or_default();
        let only_writes = flags.split('|').any(|flag| flag == "O_WRONLY" || flag == "O_APPEND");
        process.command.as_deref() == Some(command) && process.via == "fd" && only_writes
    };
    REOPENERS.iter().find(|daemon| daemon.command == command && processes.iter().all(is_log))
}

const DATABASES: [&str; 8] =
    ["postgres", "mysqld", "mariadbd", "mongod", "redis-server", "slapd", "etcd", "influxd"];
const DATABASE_FILES: [&str; 5] = ["db", "sqlite", "sqlite3", "ibd", "mdb"];
const IMAGE_FILES: [&str; 5] = ["qcow2", "img", "raw", "vmdk", "vdi"];

/// What to know before a file is taken from under those who hold it.
pub(super) fn warning(file: &Holder) -> Option<&'static str> {
    if file.kind != "file" {
        return None;
    }
    let processes = || {
        file.held_by.iter().filter_map(|held_by| match held_by {
            HeldBy::Process(process) => Some(process),
            HeldBy::Kernel(_) => None,
        })
    };
    let commands =
        |is: fn(&str) -> bool| processes().any(|process| process.command.as_deref().is_some_and(is));
    let extension = extension(file);
    if commands(|command| DATABASES.contains(&command)) || DATABASE_FILES.contains(&extension) {
        Some("a database: stop it in its own way")
    } else if commands(|command| command.starts_with("qemu-")) || IMAGE_FILES.contains(&extension) {
        Some("the disk of a virtual machine, or an image: shut down first what uses it")
    } else if processes().any(|process| process.via == "map") && !is_library(file) {
        Some("mapped into memory: stop the program in its own way")
    } else {
        None
    }
}

/// Mapped to be run: nothing is lost with it.
fn is_library(file: &Holder) -> bool {
    let name = file.path.as_deref().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
    extension(file) == "so" || name.contains(".so.")
}

fn extension(file: &Holder) -> &str {
    file.path.as_deref().and_then(Path::extension).and_then(OsStr::to_str).unwrap_or_default()
}
