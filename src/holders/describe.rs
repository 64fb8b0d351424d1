// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who the few processes are that hold something: through sysinfo, /proc/PID/cgroup
//! and the user database.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::program::{self, Running};
use super::{Held, Scan, cgroup, unit};
use crate::model::bytes::Bytes;
use crate::model::deleted::{DeletedFile, DeletedSubvolume, FileKind, Holder, ProcessHolder};
use crate::model::identity::DeviceNumber;
use crate::model::process::{Identity, Process, Program, Service};
use crate::model::timestamp::timestamp;
use crate::sys::accounts::Accounts;
use crate::sys::batch;
use crate::sys::detached::within;

/// The processes that hold something, described, by their numbers.
#[derive(Debug, Default)]
pub struct Processes(HashMap<i32, Arc<Process>>);

impl Processes {
    /// Those that hold something in any of `scans`, below `proc`. One that has gone meanwhile is not
    /// described, nor is one of which /proc does not tell in time: while it executes a program, it may wait for
    /// the files that this closes, and whoever looks at it waits with it (`exec_update_lock`, fs/exec.c). The
    /// user database, and each look at what they run, may take up to `timeout`.
    pub fn of_scans<'a>(scans: impl Iterator<Item = &'a Scan>, proc: &Path, timeout: Duration) -> Self {
        Self::of_files(scans.flat_map(|scan| &scan.held), proc, timeout)
    }

    /// The same of those that hold any of `files`.
    pub fn of_files<'a>(files: impl Iterator<Item = &'a Held>, proc: &Path, timeout: Duration) -> Self {
        let mut pids: Vec<i32> = files.flat_map(|held| &held.holds).map(|hold| hold.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        if pids.is_empty() {
            return Self::default();
        }
        let described = read_within(&pids, proc, timeout).into_iter();
        Self(described.map(|(pid, process)| (pid, Arc::new(process))).collect())
    }

    /// One inode, with its holders described.
    pub fn describe(&self, held: &Held) -> DeletedFile {
        let Held { stat, name, holds, kernel } = held;
        let process = |pid| self.0.get(pid).cloned().unwrap_or_default();
        let processes = holds.iter().map(|hold| ProcessHolder { hold: *hold, process: process(&hold.pid) });
        let is_in_deleted_subvolume = stat.is_in_deleted_subvolume();
        DeletedFile {
            dev: DeviceNumber::from(stat.dev),
            inode: stat.inode,
            kind: FileKind::of_mode(stat.mode),
            bytes: Bytes(stat.allocated),
            size: Bytes(stat.size),
            uid: stat.uid,
            name: name.clone(),
            grown: None,
            written: timestamp(stat.modified),
            deleted_subvolume: is_in_deleted_subvolume.then_some(DeletedSubvolume { number: stat.subvolume }),
            held_by: processes
                .map(Holder::Process)
                .chain(kernel.iter().cloned().map(Holder::Kernel))
                .collect(),
        }
    }
}

/// Reads all at once, or each by itself where one keeps the others waiting.
fn read_within(pids: &[i32], proc: &Path, timeout: Duration) -> HashMap<i32, Process> {
    let (all, directory) = (pids.to_vec(), proc.to_owned());
    let together = within(timeout.saturating_mul(4), move || read(&all, &directory, timeout));
    together.unwrap_or_else(|| {
        let directory = proc.to_owned();
        let one_by_one = batch::begin(pids.to_vec(), move |pid| read(&[pid], &directory, timeout));
        one_by_one.wait(timeout).into_iter().flatten().flatten().collect()
    })
}

fn read(pids: &[i32], proc: &Path, timeout: Duration) -> HashMap<i32, Process> {
    let Ok(mut system) = System::new() else { return HashMap::new() };
    let known: Vec<Pid> = pids.iter().filter_map(|&pid| u32::try_from(pid).ok()).map(Pid::from_u32).collect();
    let kind = ProcessRefreshKind::nothing().with_user(UpdateKind::Always).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&known), false, kind);
    let mut users = Users { names: HashMap::new(), accounts: Accounts::until(timeout), timeout };
    let mut running = program::running(pids, proc, timeout);
    let mut described: HashMap<i32, Process> = pids
        .iter()
        .filter_map(|&pid| {
            let process = system.process(Pid::from_u32(u32::try_from(pid).ok()?))?;
            let cgroup = std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup"));
            let running = running.remove(&pid).unwrap_or_default();
            let described = Process {
                command: Some(process.name().to_string_lossy().into_owned()),
                user: process.user_id().map(|uid| users.name(**uid)),
                started: i64::try_from(process.start_time()).ok().and_then(timestamp),
                membership: cgroup.map(|text| cgroup::parse(&text)).unwrap_or_default(),
                identity: Identity {
                    program: users.program(&running),
                    executable: running.executable,
                    uid: running.uid,
                    service: None,
                },
            };
            Some((pid, described))
        })
        .collect();
    let services = services(described.values(), proc, &mut users);
    for process in described.values_mut() {
        let unit = process.membership.unit.as_ref();
        process.identity.service = unit.and_then(|unit| services.get(unit)).cloned();
    }
    described
}

/// The services among the units of `processes`.
fn services<'a>(
    processes: impl Iterator<Item = &'a Process>,
    proc: &Path,
    users: &mut Users,
) -> HashMap<String, Service> {
    let services =
        processes.map(|process| &process.membership).filter(|membership| membership.is_system_service);
    let units: HashSet<&str> = services.filter_map(|membership| membership.unit.as_deref()).collect();
    let units: Vec<&str> = units.into_iter().collect();
    if units.is_empty() {
        return HashMap::new();
    }
    let leaders = unit::leaders(&units, proc);
    let pids: Vec<i32> = leaders.values().flatten().copied().collect();
    let running = program::running(&pids, proc, users.timeout);
    let service = |unit: &&str| {
        let leaders = leaders.get(unit).into_iter().flatten();
        let running: Vec<&Running> = leaders.filter_map(|pid| running.get(pid)).collect();
        let same = running.windows(2).all(|pair| pair[0] == pair[1]);
        let main = running.first().filter(|_| same).and_then(|running| users.program(running));
        let uid = running.first().and_then(|running| running.uid);
        let uid = uid.filter(|_| running.iter().all(|other| other.uid == uid));
        ((*unit).to_owned(), Service { unit: (*unit).to_owned(), main, uid })
    };
    units.iter().map(service).collect()
}

/// The names of users, each asked for once.
struct Users {
    names: HashMap<u32, String>,
    accounts: Accounts,
    timeout: Duration,
}

impl Users {
    fn name(&mut self, uid: u32) -> String {
        self.names.entry(uid).or_insert_with(|| self.accounts.user(uid)).clone()
    }

    fn program(&mut self, running: &Running) -> Option<Program> {
        let name = running.executable.clone().filter(|_| running.is_the_systems)?;
        let uid = running.uid?;
        Some(Program { name, uid, user: self.name(uid) })
    }
}
