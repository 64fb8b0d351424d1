//! What the filesystem says of itself as a whole: statvfs(3), sampled during the
//! whole run, so that the report knows how far `used` has moved.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

use crate::model::bytes::Bytes;
use crate::model::capacity::Figures;
use crate::sys::detached::within;

/// Often enough to see the swing of a busy filesystem also in a short run; a call costs about a
/// microsecond.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
const LONGEST_INTERVAL: Duration = Duration::from_millis(20);
/// How many samples there are at least, of a run that is long enough.
const SAMPLES: u32 = 50;

/// Asks the filesystem that `fd` is on, which may not answer.
pub fn read(fd: BorrowedFd<'_>) -> Result<Figures, Errno> {
    let raw = fstatvfs(fd)?;
    // glibc and musl fill f_frsize, also where the kernel leaves it 0. Beyond 4 EiB there are only counters
    // that are wrong: sums are to be possible with them.
    let most = 1 << 62;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(raw.fragment_size()).min(most));
    let (size, free, available) =
        (bytes(raw.blocks()), bytes(raw.blocks_free()), bytes(raw.blocks_available()));
    Ok(Figures {
        size,
        used: size.saturating_sub(free),
        free,
        available,
        reserved: free.saturating_sub(available),
        inodes: raw.files(),
        inodes_free: raw.files_free(),
    })
}

/// Samples one filesystem until it is told to stop.
pub struct Sampler {
    samples: Arc<Mutex<Samples>>,
    fd: Arc<OwnedFd>,
    timeout: Duration,
    /// Dropped to end the thread.
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
    /// Takes the first sample and starts a thread for the rest. `ETIMEDOUT` when the filesystem
    /// does not answer within `timeout`.
    pub fn start(root: &Arc<OwnedFd>, timeout: Duration) -> Result<Self, Errno> {
        let fd = Arc::clone(root);
        let first = Self::sample(&fd, timeout)?;
        let samples = Arc::new(Mutex::new(Samples::new(first)));
        let (stop, stopped) = mpsc::channel();
        let (shared, watched) = (Arc::clone(&samples), Arc::clone(&fd));
        // Not joined: when the filesystem dies under it, the thread never returns.
        let thread = thread::Builder::new().name("sampler".into()).spawn(move || {
            let clock = Instant::now();
            let interval = || (clock.elapsed() / SAMPLES).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
            while stopped.recv_timeout(interval()) == Err(mpsc::RecvTimeoutError::Timeout) {
                if let Ok(figures) = read(watched.as_fd()) {
                    shared.lock().unwrap_or_else(PoisonError::into_inner).add(figures);
                }
            }
        });
        // Without the thread there still are the first and the last sample.
        drop(thread);
        Ok(Self { samples, fd, timeout, stop })
    }

    /// Bytes in use at the latest sample.
    pub fn used(&self) -> Bytes {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).figures.used
    }

    /// Takes the last sample.
    pub fn finish(self) -> Samples {
        drop(self.stop);
        let last = Self::sample(&self.fd, self.timeout);
        let mut samples = *self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Ok(capacity) => samples.add(capacity),
            Err(_) => samples.answered = false,
        }
        samples
    }

    fn sample(fd: &Arc<OwnedFd>, timeout: Duration) -> Result<Figures, Errno> {
        let fd = Arc::clone(fd);
        within(timeout, move || read(fd.as_fd())).unwrap_or(Err(Errno::ETIMEDOUT))
    }
}
