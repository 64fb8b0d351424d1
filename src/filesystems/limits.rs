// SPDX-License-Identifier: MIT OR Apache-2.0

//! What may keep any filesystem from storing anything though it has bytes left: quotas, the devices or the
//! image it lies on. Drivers add what only theirs has. Needs no right for most of it; what cannot be read is
//! left out, and never guessed.

pub(super) mod device;
pub(super) mod quota;

use std::time::Duration;

use super::driver::{Geometry, Mounted};
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;
use crate::model::limits::Limits;

/// Reads what every filesystem may have. `geometry` is how it is made, where that is known.
pub(super) fn read(on: Mounted<'_>, geometry: Option<&Geometry>, timeout: Duration) -> Limits {
    let device_size = geometry.and_then(device_size);
    Limits {
        devices: geometry.map(|geometry| device::all(&geometry.devices)).unwrap_or_default(),
        device_size,
        uncounted: device_size.and_then(|size| uncounted(geometry?, size)),
        image: device::image(on.mount.dev, timeout),
        quotas: quota::short(on.mount, on.root, timeout / 2),
        ..Limits::default()
    }
}

fn device_size(geometry: &Geometry) -> Option<Bytes> {
    geometry.devices.iter().map(|member| device::capacity(member.dev?)).sum()
}

/// What the filesystem takes up without its being counted, and what it does not take up. Nothing is told
/// of a device that is too small for its filesystem.
fn uncounted(geometry: &Geometry, device: Bytes) -> Option<Vec<Term>> {
    let taken: Bytes = geometry.devices.iter().map(|member| member.size).sum();
    let beyond = Bytes(device.0.checked_sub(taken.0)?);
    let mut uncounted = geometry.uncounted.clone()?;
    uncounted.push(Term { name: "beyond the filesystem's end", bytes: beyond });
    Some(uncounted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystems::driver::MemberDevice;

    #[test]
    fn what_is_not_counted_ends_with_the_device() {
        let log = Term { name: "log", bytes: Bytes(10) };
        let member = |number, size| MemberDevice { dev: None, number, size: Bytes(size) };
        let geometry = Geometry { devices: vec![member(1, 100), member(2, 50)], uncounted: Some(vec![log]) };
        let beyond = |bytes| Term { name: "beyond the filesystem's end", bytes: Bytes(bytes) };
        assert_eq!(uncounted(&geometry, Bytes(151)), Some(vec![log, beyond(1)]));
        assert_eq!(uncounted(&geometry, Bytes(149)), None);
        assert_eq!(uncounted(&Geometry { uncounted: None, ..geometry }, Bytes(151)), None);
    }
}
