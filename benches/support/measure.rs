// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs whole processes and measures them from outside, in turns.

use std::error::Error;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::interrupt::interrupted;
use super::programs::version;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What one contender printed, turned into the number that is compared.
pub(crate) type Answer = Box<dyn Fn(&[u8]) -> Result<u64>>;

/// A program in the race.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) answer: Answer,
    /// Statuses other than 0 that come with a full answer.
    pub(crate) also_fine: &'static [i32],
}

/// One run of one contender.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_rss: u64,
    pub(crate) answer: u64,
}

/// What each contender did in each round, by `[contender][round]`.
pub(crate) type Samples = Vec<Vec<Sample>>;

/// Runs A B C A B C ..., so that whatever else the machine does hits all alike.
/// Round 0, not among the samples, fills the caches.
pub(crate) fn race(contenders: &[Contender], rounds: usize, cold: bool) -> Result<Samples> {
    let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            if cold && round > 0 {
                drop_caches()?;
                // The tree is to be cold; how long it takes to load a program
                // is no matter here.
                version(&contender.command[0]);
            }
            let sample = contender.run().map_err(|e| format!("{}: {e}", contender.name))?;
            if interrupted() {
                return Err("interrupted".into());
            }
            if round > 0 {
                samples.push(sample);
            }
        }
        eprintln!("  round {round} of {rounds}");
    }
    Ok(samples)
}

/// Makes the kernel forget the names, inodes and data that it read.
pub(crate) fn drop_caches() -> Result<()> {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3")
        .map_err(|e| format!("cold runs need to write /proc/sys/vm/drop_caches: {e}"))?;
    Ok(())
}

impl Contender {
    fn run(&self) -> Result<Sample> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: the closure does nothing at all. It is there because std then
        // forks: after a vfork the child's peak RSS would start at ours.
        unsafe { command.pre_exec(|| Ok(())) };
        let start = Instant::now();
        let mut child = command.spawn()?;
        let (printed, complaints) = outputs(&mut child)?;
        let (status, usage) = wait(&child)?;
        let wall = start.elapsed();
        let fine = |code| code == 0 || self.also_fine.contains(&code);
        if !status.code().is_some_and(fine) {
            return Err(format!("{status}: {}", complaints.trim()).into());
        }
        Ok(Sample {
            wall,
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
            peak_rss: u64::try_from(usage.ru_maxrss)? * 1024,
            answer: (self.answer)(&printed)?,
        })
    }
}

/// Reads both pipes to their ends at once: either may fill up first.
fn outputs(child: &mut Child) -> Result<(Vec<u8>, String)> {
    let complaints = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is still worth showing.
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    let mut printed = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut printed)?;
    }
    let complaints = complaints.and_then(|thread| thread.join().ok());
    Ok((printed, complaints.unwrap_or_default()))
}

/// Like `Child::wait`, with the resources that this one child used.
fn wait(child: &Child) -> Result<(ExitStatus, libc::rusage)> {
    let pid = libc::pid_t::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals of the right types.
    while unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
    Ok((ExitStatus::from_raw(status), usage))
}

fn duration(time: libc::timeval) -> Duration {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

/// The program with its version, or a line that says how to get it.
pub(crate) fn find_peer(program: &str, how_to_install: &str) -> Option<String> {
    let version = version(program);
    if version.is_none() {
        println!("{program}: not found, left out (install it with `{how_to_install}`)\n");
    }
    version.map(|version| format!("{program} {version}"))
}
