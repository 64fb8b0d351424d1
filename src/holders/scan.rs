// SPDX-License-Identifier: MIT OR Apache-2.0

//! All of /proc in parallel, and what it says put together by inode.

use std::collections::hash_map::Entry;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::in_flight::Carrier;
use super::places::{Place, Places};
use super::process::{self, Outcome, Proc, Sighting, is_kernel_thread, numbers};
use super::second_pass::Found;
use super::{Held, Key, Scan, Unseen, key};
use crate::model::deleted::Hold;
use crate::model::skips::{Kind, Skip};
use crate::sys::deadline::Deadline;
use crate::sys::detached::detach;
use crate::sys::{thread, worker};

/// More would only take longer to start than a scan lasts.
const MOST_THREADS: usize = 64;

/// A fixed number of threads as rayon takes it, which makes 0 as many as there are cores.
pub(super) fn number_of(threads: Option<NonZero<usize>>) -> usize {
    threads.map_or(0, NonZero::get).min(MOST_THREADS)
}

/// Reads all processes below `proc` and returns the inodes without name that belong to `places`,
/// by the number of their filesystem. When no process could be finished for as long as `timeout`, the
/// remaining ones are given up: they are waiting for a server that does not answer.
pub fn scan(
    proc: &Path,
    places: &Arc<Places>,
    threads: Option<NonZero<usize>>,
    timeout: Duration,
) -> Result<Found, Errno> {
    let count = places.devices.values().chain(places.mounts.values()).max().map_or(0, |last| last + 1);
    let directory = open(proc, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let pids: Vec<i32> =
        numbers(directory.as_fd(), c".")?.into_iter().filter_map(|pid| i32::try_from(pid).ok()).collect();
    let (sender, receiver) = mpsc::channel();
    let mut pending: FxHashSet<i32> = pids.iter().copied().collect();
    let shared = Arc::clone(places);
    let own = own_pids(proc);
    let same_numbers = own.first() == Some(&nix::unistd::getpid().as_raw());
    detach(move || {
        let proc = Proc { directory: directory.as_fd(), same_numbers };
        let read = |pid| {
            // Nobody receives any more when the time was up.
            let _ = sender.send((pid, process::read(proc, pid, &shared)));
        };
        match thread::pool(number_of(threads)) {
            Ok(pool) => pool.install(|| pids.into_par_iter().with_max_len(1).for_each(read)),
            // No more threads to be had: then one after the other.
            Err(_) => pids.into_iter().for_each(read),
        }
    });

    let mut gathered = Gathered::default();
    while !pending.is_empty() {
        let Ok((pid, outcome)) = Deadline::after(timeout).receive(&receiver) else { break };
        pending.remove(&pid);
        gathered.add(proc, pid, outcome);
    }
    gathered.skips.extend(pending.into_iter().map(|pid| process_skip(proc, pid, Errno::ETIMEDOUT)));
    gathered.skips.extend(outside_namespace(proc));
    gathered.leave_out_own(&own);
    let (carriers, foreign) = (std::mem::take(&mut gathered.carriers), std::mem::take(&mut gathered.foreign));
    let scans = gathered.by_filesystem(places, count);
    Ok(Found { scans, proc: proc.to_owned(), places: Arc::clone(places), carriers, foreign, same_numbers })
}

/// The numbers in that /proc of the processes that make up this command: this one's, to which `/proc/self`
/// leads, and that of the one that waits for it, if there is one.
pub fn own_pids(proc: &Path) -> Vec<i32> {
    let own = std::fs::read_link(proc.join("self")).ok().and_then(|link| link.to_str()?.parse().ok());
    let waiting = || {
        let status = std::fs::read_to_string(proc.join("self/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    own.into_iter().chain(if worker::is_running() { waiting() } else { None }).collect()
}

/// In a pid namespace other than the first (a container), /proc lists only the processes in it. The
/// first one's number is fixed (`include/linux/proc_ns.h`, `PROC_PID_INIT_INO`). A /proc of the first may
/// be seen from another, too: all kernel threads are in it, the one that starts them as number 2.
pub(super) fn outside_namespace(proc: &Path) -> Option<Skip> {
    const FIRST: &str = "pid:[4026531836]";
    const KTHREADD: i32 = 2;
    let namespace = std::fs::read_link(proc.join("self/ns/pid")).ok()?;
    let lists_all = || {
        let directory = open(proc, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        directory.is_ok_and(|directory| is_kernel_thread(directory.as_fd(), KTHREADD))
    };
    (namespace != Path::new(FIRST) && !lists_all()).then(|| Skip::new(Kind::Unlisted, proc, None))
}

fn process_skip(proc: &Path, pid: i32, errno: Errno) -> Skip {
    Skip::new(Kind::Process, proc.join(pid.to_string()), errno)
}

#[derive(Default)]
struct Gathered {
    held: FxHashMap<(usize, Key), Held>,
    /// Those whose place is not known.
    foreign: Vec<Sighting>,
    carriers: Vec<Carrier>,
    unseen: Vec<Unseen>,
    skips: Vec<Skip>,
    processes: u64,
}

impl Gathered {
    fn add(&mut self, proc: &Path, pid: i32, outcome: Outcome) {
        match outcome {
            Outcome::Read { sightings, unseen, carriers, denied } => {
                match denied {
                    Some(errno) => self.skips.push(process_skip(proc, pid, errno)),
                    None => self.processes += 1,
                }
                self.unseen.extend(unseen);
                self.carriers.extend(carriers);
                for sighting in sightings {
                    self.sighting(sighting);
                }
            }
            Outcome::Nothing => {}
        }
    }

    fn sighting(&mut self, sighting: Sighting) {
        let Place::On(filesystem) = sighting.place else {
            self.foreign.push(sighting);
            return;
        };
        let Sighting { stat, name, hold, .. } = sighting;
        match self.held.entry((filesystem, key(&stat))) {
            Entry::Occupied(mut entry) => {
                let held = entry.get_mut();
                // It may have grown between two looks.
                held.stat = stat;
                held.name.or(name);
                held.holds.push(hold);
            }
            Entry::Vacant(entry) => {
                entry.insert(Held { stat, name, holds: vec![hold], kernel: Vec::new() });
            }
        }
    }

    /// A shell that holds a deleted file hands its descriptor down to us. That ends with us, so it is
    /// told only of a file that nobody else holds.
    fn leave_out_own(&mut self, own: &[i32]) {
        let is_own = |hold: &Hold| own.contains(&hold.pid);
        for held in self.held.values_mut().filter(|held| !held.holds.iter().all(is_own)) {
            held.holds.retain(|hold| !is_own(hold));
        }
        self.foreign.retain(|sighting| !is_own(&sighting.hold));
        self.carriers.retain(|carrier| !own.contains(&carrier.pid));
    }

    fn by_filesystem(mut self, places: &Places, count: usize) -> Vec<Scan> {
        self.skips.sort_by(|a, b| a.path.cmp(&b.path));
        let mut scans: Vec<Scan> = (0..count)
            .map(|_| Scan { processes: self.processes, skips: self.skips.clone(), ..Scan::default() })
            .collect();
        for unseen in self.unseen {
            let Some(&filesystem) = places.devices.get(&unseen.dev) else { continue };
            let known = self.held.contains_key(&(filesystem, (unseen.dev, None, unseen.inode)));
            let skips = &mut scans[filesystem].skips;
            let skip = Skip::new(Kind::Mapping, unseen.path, unseen.errno);
            if !known && !skips.contains(&skip) {
                skips.push(skip);
            }
        }
        for ((filesystem, _), held) in self.held {
            scans[filesystem].held.push(held);
        }
        for scan in &mut scans {
            scan.sort();
        }
        scans
    }
}
