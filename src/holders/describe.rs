//! Who the few processes are that hold something: through sysinfo, /proc/PID/cgroup
//! and the user database.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::cgroup::{self, Membership};
use super::program::{self, Program, Running};
use super::unit;
use crate::sys::accounts::Accounts;
use crate::sys::batch;
use crate::sys::detached::within;

/// What is told of a process.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The command's name, as in `ps -o comm`: at most 15 bytes, and the process's own to choose.
    pub command: Option<String>,
    /// The user's name, or number where it has none.
    pub user: Option<String>,
    /// When it was started, seconds since the epoch.
    pub started: Option<i64>,
    /// Unit, container, pod.
    pub membership: Membership,
    /// What it cannot choose itself.
    pub identity: Identity,
}

/// Who a process is, whatever it calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name of the file that it runs. That may be a file of the user's.
    pub executable: Option<String>,
    /// The program that it runs, where it is one of the system's own.
    pub program: Option<Program>,
    /// The user's number; none of a process between two users.
    pub uid: Option<u32>,
    /// The service of the system's manager that it belongs to.
    pub service: Option<Service>,
}

/// A service of the system's manager, as far as /proc tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its unit.
    pub unit: String,
    /// The program that it runs, if its main process can be nothing else: all its processes that no other
    /// of them has started run this one, as the same user.
    pub main: Option<Program>,
    /// As whom all of those run.
    pub uid: Option<u32>,
}

/// Describes processes. One that has gone meanwhile is left out, and so is one of which /proc does not tell in
/// time: while it executes a program, it may wait for the files that this closes, and whoever looks at it waits
/// with it (`exec_update_lock`, fs/exec.c). The user database, and each look at what they run, may take up to
/// `timeout`.
pub fn describe(pids: &[i32], proc: &Path, timeout: Duration) -> HashMap<i32, Owner> {
    let (all, directory) = (pids.to_vec(), proc.to_owned());
    let together = within(timeout.saturating_mul(4), move || read(&all, &directory, timeout));
    together.unwrap_or_else(|| {
        let directory = proc.to_owned();
        let one_by_one = batch::begin(pids.to_vec(), move |pid| read(&[pid], &directory, timeout));
        one_by_one.wait(timeout).into_iter().flatten().flatten().collect()
    })
}

fn read(pids: &[i32], proc: &Path, timeout: Duration) -> HashMap<i32, Owner> {
    let Ok(mut system) = System::new() else { return HashMap::new() };
    let known: Vec<Pid> = pids.iter().filter_map(|&pid| u32::try_from(pid).ok()).map(Pid::from_u32).collect();
    let kind = ProcessRefreshKind::nothing().with_user(UpdateKind::Always).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&known), false, kind);
    let mut users = Users { names: HashMap::new(), accounts: Accounts::until(timeout), timeout };
    let mut running = program::running(pids, proc, timeout);
    let mut owners: HashMap<i32, Owner> = pids
        .iter()
        .filter_map(|&pid| {
            let process = system.process(Pid::from_u32(u32::try_from(pid).ok()?))?;
            let cgroup = std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup"));
            let running = running.remove(&pid).unwrap_or_default();
            let owner = Owner {
                command: Some(process.name().to_string_lossy().into_owned()),
                user: process.user_id().map(|uid| users.name(**uid)),
                started: i64::try_from(process.start_time()).ok(),
                membership: cgroup.map(|text| cgroup::parse(&text)).unwrap_or_default(),
                identity: Identity {
                    program: users.program(&running),
                    executable: running.executable,
                    uid: running.uid,
                    service: None,
                },
            };
            Some((pid, owner))
        })
        .collect();
    let services = services(owners.values(), proc, &mut users);
    for owner in owners.values_mut() {
        let unit = owner.membership.unit.as_ref();
        owner.identity.service = unit.and_then(|unit| services.get(unit)).cloned();
    }
    owners
}

/// The services among the units of `owners`.
fn services<'a>(
    owners: impl Iterator<Item = &'a Owner>,
    proc: &Path,
    users: &mut Users,
) -> HashMap<String, Service> {
    let services = owners.map(|owner| &owner.membership).filter(|membership| membership.is_system_service);
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
