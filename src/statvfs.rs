// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the filesystem says of itself as a whole: statvfs(3), sampled during the
//! whole run, so that the report knows how far `used` has moved.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

use crate::model::bytes::Bytes;
use crate::model::capacity::Figures;
use crate::sys::batch;
use crate::sys::thread::spawn;

/// Often enough to see the swing of a busy filesystem also in a short run; a call costs about a
/// microsecond.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
const LONGEST_INTERVAL: Duration = Duration::from_millis(20);
/// How many samples there are at least, of a run that is long enough.
const SAMPLES: u32 = 50;
/// For so much longer than it samples, a thread rests.
const ROUNDS_OF_REST: u32 = 100;
/// Several, so that a filesystem that stops answering keeps only a part of the others from being sampled.
const MOST_THREADS: usize = 8;

/// Asks the filesystem that `fd` is on, which may not answer.
pub fn read(fd: BorrowedFd<'_>) -> Result<Figures, Errno> {
    let raw = fstatvfs(fd)?;
    // glibc and musl fill f_frsize, also where the kernel leaves it 0.
    let unit = raw.fragment_size();
    let blocks = [raw.blocks(), raw.blocks_free(), raw.blocks_available()];
    Ok(Figures::of(unit, blocks, [raw.files(), raw.files_free()]))
}

/// Samples one filesystem, together with others, until it is told to stop.
pub struct Sampler {
    samples: Arc<Mutex<Samples>>,
    fd: Arc<OwnedFd>,
    /// The thread ends when it is dropped for all the filesystems that the thread samples.
    stop: mpsc::Sender<()>,
}

/// What the samples came to.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    /// The last one.
    pub figures: Figures,
    /// The least and the most that were in use.
    least: Bytes,
    most: Bytes,
    /// The most that it moved from one sample to the next.
    step: Bytes,
    /// Whether the last one could be taken; else `figures` is an older one.
    pub answered: bool,
}

impl Samples {
    fn new(figures: Figures) -> Self {
        Self { figures, least: figures.used, most: figures.used, step: Bytes::ZERO, answered: true }
    }

    fn add(&mut self, figures: Figures) {
        self.step = self.step.max((figures.used - self.figures.used).magnitude());
        self.figures = figures;
        self.least = self.least.min(figures.used);
        self.most = self.most.max(figures.used);
    }

    /// How far `used` has moved: between the samples it may have gone further, but hardly more than it
    /// went from one to the next.
    pub fn swing(&self) -> Bytes {
        self.most.saturating_sub(self.least) + self.step
    }
}

impl Sampler {
    /// Bytes in use at the latest sample.
    pub fn used(&self) -> Bytes {
        self.lock().figures.used
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the first sample of each filesystem, given by its root, and starts threads for the rest: as many as
/// there are filesystems, but no more than a few. `ETIMEDOUT` for one that does not answer within `timeout`.
pub fn start(roots: Vec<Result<Arc<OwnedFd>, Errno>>, timeout: Duration) -> Vec<Result<Sampler, Errno>> {
    let first = sample(roots, timeout);
    let groups = first.iter().filter(|first| first.is_ok()).count().clamp(1, MOST_THREADS);
    let (stops, stopped): (Vec<_>, Vec<_>) = (0..groups).map(|_| mpsc::channel()).unzip();
    let mut watched: Vec<Vec<_>> = (0..groups).map(|_| Vec::new()).collect();
    let mut turns = (0..groups).cycle();
    let mut sampler = |fd: Arc<OwnedFd>, figures| {
        let group = turns.next().unwrap_or(0);
        let samples = Arc::new(Mutex::new(Samples::new(figures)));
        watched[group].push((Arc::clone(&fd), Arc::clone(&samples)));
        Sampler { samples, fd, stop: stops[group].clone() }
    };
    let samplers = first.into_iter().map(|first| first.map(|(fd, figures)| sampler(fd, figures))).collect();
    for (watched, stopped) in watched.into_iter().zip(stopped) {
        // Not joined: when a filesystem dies under it, the thread never returns. Without the thread there
        // still are the first and the last sample.
        drop(spawn("sampler", move || watch(&watched, &stopped)));
    }
    samplers
}

/// Takes the last sample of each.
pub fn finish(samplers: Vec<Result<Sampler, Errno>>, timeout: Duration) -> Vec<Result<Samples, Errno>> {
    let roots = samplers.iter().map(|sampler| match sampler {
        Ok(sampler) => Ok(Arc::clone(&sampler.fd)),
        Err(errno) => Err(*errno),
    });
    let last = sample(roots.collect(), timeout);
    let finished = samplers.into_iter().zip(last).map(|(sampler, last)| {
        let sampler = sampler?;
        drop(sampler.stop);
        let mut all = *sampler.samples.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Ok((_, figures)) => all.add(figures),
            Err(_) => all.answered = false,
        }
        Ok(all)
    });
    finished.collect()
}

/// One sample of each, if its filesystem answers.
fn sample(
    roots: Vec<Result<Arc<OwnedFd>, Errno>>,
    timeout: Duration,
) -> Vec<Result<(Arc<OwnedFd>, Figures), Errno>> {
    let read = |root: Result<Arc<OwnedFd>, Errno>| {
        let root = root?;
        let figures = self::read(root.as_fd())?;
        Ok((root, figures))
    };
    let samples = batch::begin(roots, read).wait(timeout).into_iter();
    samples.map(|sample| sample.unwrap_or(Err(Errno::ETIMEDOUT))).collect()
}

/// Samples filesystems in turn. With many of them a round takes a while: then there are fewer rounds.
fn watch(watched: &[(Arc<OwnedFd>, Arc<Mutex<Samples>>)], stopped: &mpsc::Receiver<()>) {
    let clock = Instant::now();
    let mut round = Duration::ZERO;
    let interval = |round: Duration| {
        let often = (clock.elapsed() / SAMPLES).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        often.max(round * ROUNDS_OF_REST)
    };
    while stopped.recv_timeout(interval(round)) == Err(mpsc::RecvTimeoutError::Timeout) {
        let begun = Instant::now();
        for (fd, samples) in watched {
            if let Ok(figures) = read(fd.as_fd()) {
                samples.lock().unwrap_or_else(PoisonError::into_inner).add(figures);
            }
        }
        round = begun.elapsed();
    }
}
