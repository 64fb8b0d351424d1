// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which task is in which mount namespace.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::Mode;
use rustc_hash::FxHashMap;

use crate::holders::process::numbers;
use crate::holders::scan::outside_namespace;
use crate::sys::deadline::Deadline;
use crate::sys::detached::detach;

/// A task in each mount namespace.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// By the namespace's inode number; a process as a whole where there is one.
    pub(super) by_namespace: FxHashMap<u64, u32>,
    /// Whether that is all there are on this machine.
    pub(super) all: bool,
}

/// Looks at the processes below `proc` and, if wanted, at their threads. One that is just executing a
/// program can keep us waiting, for as long as the files that this closes do: `proc_ns_readlink`
/// (fs/proc/namespaces.c) takes `exec_update_lock`. After `timeout` what is known has to do.
pub(super) fn tasks(proc: &Path, with_threads: bool, timeout: Duration) -> Tasks {
    let deadline = Deadline::after(timeout);
    let (sender, receiver) = mpsc::channel();
    let lists_all = outside_namespace(proc).is_none();
    let proc = proc.to_owned();
    // The wait can be killed, so the thread does not keep this process from ending.
    detach(move || {
        let pids = pids(&proc);
        let mut look = |number: u32| {
            // Nobody receives any more when the time was up.
            let _ = sender.send((number, namespace_of(&proc, number)));
        };
        pids.iter().copied().for_each(&mut look);
        for &pid in pids.iter().filter(|_| with_threads) {
            let threads = self::pids(&proc.join(pid.to_string()).join("task"));
            threads.into_iter().filter(|&thread| thread != pid).for_each(&mut look);
        }
    });
    let mut tasks = Tasks { all: with_threads && lists_all, ..Tasks::default() };
    loop {
        match deadline.receive(&receiver) {
            Ok((number, Ok(namespace))) => {
                tasks.by_namespace.entry(namespace).or_insert(number);
            }
            // It has gone.
            Ok((_, Err(Errno::ENOENT | Errno::ESRCH))) => {}
            Ok((_, Err(_))) => tasks.all = false,
            Err(error) => {
                tasks.all &= error == mpsc::RecvTimeoutError::Disconnected;
                return tasks;
            }
        }
    }
}

fn pids(directory: &Path) -> Vec<u32> {
    let directory = open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    directory.and_then(|directory| numbers(directory.as_fd(), c".")).unwrap_or_default()
}

fn namespace_of(proc: &Path, task: u32) -> Result<u64, Errno> {
    let link = readlink(&proc.join(task.to_string()).join("ns/mnt"))?;
    inode_in(Path::new(&link)).ok_or(Errno::EINVAL)
}

/// `mnt:[4026531832]`
pub(super) fn inode_in(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
}
