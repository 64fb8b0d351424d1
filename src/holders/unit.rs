// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a unit runs: without asking its manager, from the processes in its control group.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::cgroup;

/// The processes of each of `units` whose parents are not in the same unit: its main process is one of them.
/// Others have lost their parent, or were put there.
pub(super) fn leaders<'a>(units: &[&'a str], proc: &Path) -> HashMap<&'a str, Vec<i32>> {
    let mut members: HashMap<i32, (&'a str, i32)> = HashMap::new();
    let pids = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let process = proc.join(pid.to_string());
        let membership = fs::read_to_string(process.join("cgroup")).map(|text| cgroup::parse(&text));
        let Ok(Some(unit)) = membership.map(|membership| membership.unit) else { continue };
        let Some(unit) = units.iter().find(|known| **known == unit) else { continue };
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        // One that has gone meanwhile leads nothing any more.
        members.extend(parent(&status).map(|parent| (pid, (*unit, parent))));
    }
    let mut leaders: HashMap<&str, Vec<i32>> = HashMap::new();
    for (pid, (unit, parent)) in &members {
        if members.get(parent).is_none_or(|(other, _)| other != unit) {
            leaders.entry(unit).or_default().push(*pid);
        }
    }
    leaders
}

/// The line `PPid:` of /proc/PID/status.
fn parent(status: &str) -> Option<i32> {
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
