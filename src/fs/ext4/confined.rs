//! Where a volume is read: on a thread that can do nothing but read its device. Whatever a damaged or
//! forged volume may lead the code behind `Volume` to, it cannot open, change or run anything.

use std::os::fd::AsFd;
use std::thread;

use nix::errno::Errno;

use super::volume::{ReadAt, Volume};
use crate::sys::confinement;

/// What was read of a volume.
pub(super) struct Confined<T> {
    pub(super) value: T,
    /// Why the kernel did not confine the thread, where it did not.
    pub(super) refusal: Option<Errno>,
}

/// Opens the volume on `device` and does `read` with it, confined. Threads that `read` starts are
/// confined, too. Without another thread nothing is read.
pub(super) fn read<T: Send>(
    device: &(impl ReadAt + AsFd),
    read: impl FnOnce(&Volume<'_>) -> Result<T, Errno> + Send,
) -> Result<Confined<T>, Errno> {
    let work = || {
        let refusal = confinement::confine(device.as_fd()).err();
        let value = read(&Volume::open(device)?)?;
        Ok(Confined { value, refusal })
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("volume".into()).spawn_scoped(scope, work);
        reader.map_err(|_| Errno::EAGAIN)?.join().map_err(|_| Errno::EIO)?
    })
}
