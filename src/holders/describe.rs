//! Who the few processes are that hold something: through sysinfo, /proc/PID/cgroup
//! and the user database.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Uid, User};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::cgroup::{self, Membership};
use crate::deadline::within;

/// What is told of a process.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The command's name, as in `ps -o comm`: at most 15 bytes.
    pub command: Option<String>,
    /// The user's name, or number where it has none.
    pub user: Option<String>,
    /// When it was started, seconds since the epoch.
    pub started: Option<i64>,
    /// Unit, container, pod.
    pub membership: Membership,
}

/// Describes processes. One that has gone meanwhile is left out.
pub fn describe(pids: &[i32], proc: &Path, timeout: Duration) -> HashMap<i32, Owner> {
    let Ok(mut system) = System::new() else { return HashMap::new() };
    let known: Vec<Pid> = pids.iter().filter_map(|&pid| u32::try_from(pid).ok()).map(Pid::from_u32).collect();
    let kind = ProcessRefreshKind::nothing().with_user(UpdateKind::Always).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&known), false, kind);
    let mut users = HashMap::new();
    pids.iter()
        .filter_map(|&pid| {
            let process = system.process(Pid::from_u32(u32::try_from(pid).ok()?))?;
            let uid = process.user_id().map(|uid| **uid);
            let user = uid.map(|uid| users.entry(uid).or_insert_with(|| user_name(uid, timeout)).clone());
            let cgroup = std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup"));
            let owner = Owner {
                command: Some(process.name().to_string_lossy().into_owned()),
                user,
                started: i64::try_from(process.start_time()).ok(),
                membership: cgroup.map(|text| cgroup::parse(&text)).unwrap_or_default(),
            };
            Some((pid, owner))
        })
        .collect()
}

/// The user database may be a directory server that does not answer.
fn user_name(uid: u32, timeout: Duration) -> String {
    let found = within(timeout, move || User::from_uid(Uid::from_raw(uid)));
    match found {
        Some(Ok(Some(user))) => user.name,
        _ => uid.to_string(),
    }
}
