// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a volume is read: on a thread that can do nothing but read what is open. Whatever a damaged or
//! forged volume may lead the code behind `Volume` to, it cannot open, change or run anything.

use std::thread;

use nix::errno::Errno;

use super::error::Error;
use super::volume::{ReadAt, Volume};
use crate::model::errno::errno;
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
    device: &impl ReadAt,
    read: impl FnOnce(&Volume<'_>) -> Result<T, Error> + Send,
) -> Result<Confined<T>, Error> {
    let work = || {
        let refusal = confinement::confine().err();
        let value = read(&Volume::open(device)?)?;
        Ok(Confined { value, refusal })
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("volume".into()).spawn_scoped(scope, work);
        let reader = reader.map_err(|error| Error::NoThread(errno(&error)))?;
        reader.join().map_err(|_| Error::Panicked)?
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    /// A device that tries to open something whenever it is read.
    #[derive(Default)]
    struct Curious(Mutex<Vec<Option<i32>>>);

    impl ReadAt for Curious {
        fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Result<(), Error> {
            let opened = File::open("/proc/self/status");
            self.0.lock().unwrap().push(opened.err().and_then(|error| error.raw_os_error()));
            Err(Error::Read(Errno::EIO))
        }

        fn pause(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn nothing_can_be_opened_while_a_volume_is_read() {
        let device = Curious::default();
        assert_eq!(read(&device, |volume| Ok(volume.size())).err(), Some(Error::Read(Errno::EIO)));
        assert_eq!(device.0.into_inner().unwrap(), [Some(libc::EPERM)]);
    }
}
