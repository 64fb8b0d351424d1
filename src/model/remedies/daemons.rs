// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is known of programs: which of them open their logs anew on a signal, and
//! what must not be taken from under whom.

use std::ffi::OsStr;
use std::path::Path;

use crate::model::deleted::{DeletedFile, FileKind, ProcessHolder, Via};
use crate::model::process::Program;

/// A daemon that opens its logs anew when it gets a signal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reopener {
    /// Its file, which must be a program of the system's own. What a process calls itself does not count: the
    /// signal would end another program.
    executable: &'static str,
    pub(super) signal: &'static str,
    /// Whether every process that has a log open takes the signal so, not only the daemon's main one.
    pub(super) all_take_it: bool,
    /// As whom it runs besides root.
    users: &'static [&'static str],
}

/// Only what the manuals promise. The users are those that distributions make for it.
const REOPENERS: [Reopener; 5] = [
    // rsyslogd(8), SIGNALS: HUP closes all open files.
    Reopener { executable: "rsyslogd", signal: "HUP", all_take_it: true, users: &["syslog"] },
    // syslog-ng(8): HUP reloads the configuration, and with it all destinations.
    Reopener { executable: "syslog-ng", signal: "HUP", all_take_it: true, users: &[] },
    // nginx.org/en/docs/control.html: USR1 opens log files anew; workers take it, too.
    Reopener {
        executable: "nginx",
        signal: "USR1",
        all_take_it: true,
        users: &["www-data", "nginx", "http"],
    },
    // httpd.apache.org/docs/current/stopping.html: USR1 is "graceful". A child that gets it ends.
    Reopener { executable: "apache2", signal: "USR1", all_take_it: false, users: &["www-data"] },
    Reopener { executable: "httpd", signal: "USR1", all_take_it: false, users: &["apache", "http"] },
];

impl Reopener {
    fn is(&self, program: Option<&Program>) -> bool {
        program.is_some_and(|program| {
            let is_trusted = program.uid == 0 || self.users.contains(&program.user.as_str());
            program.name == self.executable && is_trusted
        })
    }
}

/// The daemon that alone holds a file as a log: only to write to it. In a service it must be what the service
/// itself runs, which gets the signal.
pub(super) fn reopener(processes: &[&ProcessHolder]) -> Option<&'static Reopener> {
    let is_log = |holder: &ProcessHolder| holder.hold.via.info().is_some_and(|info| info.flags.only_writes());
    let is_its = |daemon: &Reopener, holder: &ProcessHolder| {
        let identity = &holder.process.identity;
        let is_main = identity.service.as_ref().is_none_or(|service| daemon.is(service.main.as_ref()));
        is_main && daemon.is(identity.program.as_ref()) && is_log(holder)
    };
    let all = |daemon: &&Reopener| processes.iter().all(|holder| is_its(daemon, holder));
    REOPENERS.iter().filter(|_| !processes.is_empty()).find(all)
}

const DATABASES: [&str; 8] =
    ["postgres", "mysqld", "mariadbd", "mongod", "redis-server", "slapd", "etcd", "influxd"];
const DATABASE_FILES: [&str; 5] = ["db", "sqlite", "sqlite3", "ibd", "mdb"];
const IMAGE_FILES: [&str; 5] = ["qcow2", "img", "raw", "vmdk", "vdi"];

/// What to know before a file is taken from under those who hold it. A process may call itself what it likes,
/// so the name of its program counts as well: either is enough.
pub(super) fn warning(file: &DeletedFile) -> Option<&'static str> {
    if file.kind != FileKind::File {
        return None;
    }
    let commands = |is: fn(&str) -> bool| {
        file.processes().map(|holder| &holder.process).any(|process| {
            [&process.command, &process.identity.executable].into_iter().flatten().any(|name| is(name))
        })
    };
    let extension = extension(file);
    if commands(|command| DATABASES.contains(&command)) || DATABASE_FILES.contains(&extension) {
        Some("a database: stop it with its own command")
    } else if commands(|command| command.starts_with("qemu-")) || IMAGE_FILES.contains(&extension) {
        Some("the disk of a virtual machine, or an image: first shut down what uses it")
    } else if file.processes().any(|holder| holder.hold.via == Via::Mapping) && !is_library(file) {
        Some("mapped into memory: stop the program with its own command")
    } else {
        None
    }
}

/// Mapped to be run: nothing is lost with it. By its place, too, as anybody may name a file so.
fn is_library(file: &DeletedFile) -> bool {
    const PLACES: [&str; 4] = ["/usr", "/lib", "/lib64", "/opt"];
    let is_there = |path: &Path| PLACES.iter().any(|place| path.starts_with(place));
    if !file.name.path().is_some_and(is_there) {
        return false;
    }
    let name = file.name.path().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
    extension(file) == "so" || name.contains(".so.")
}

fn extension(file: &DeletedFile) -> &str {
    file.name.path().and_then(Path::extension).and_then(OsStr::to_str).unwrap_or_default()
}
