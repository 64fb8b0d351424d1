// SPDX-License-Identifier: MIT OR Apache-2.0

//! What of the device `df` does not count, and what of the free space is not for everybody.

use super::Screen;
use super::layout::list;
use crate::model::bytes::{Bytes, Units};
use crate::report::{Capacity, Detail, Filesystem};

/// Up to two sentences, where there is anything to tell.
pub(super) fn write(screen: &mut Screen<'_>, filesystem: &Filesystem) {
    let (capacity, units) = (&filesystem.capacity, screen.style.units);
    let sentences: Vec<String> =
        [uncounted(capacity, units), reserve(capacity, units)].into_iter().flatten().collect();
    if !sentences.is_empty() {
        screen.blank();
    }
    for sentence in sentences {
        screen.sentence(&sentence);
    }
}

fn uncounted(capacity: &Capacity, units: Units) -> Option<String> {
    let parts = capacity.uncounted.as_ref().filter(|parts| !parts.is_empty())?;
    let device = units.format(capacity.device_bytes?);
    // Some names have a comma in them.
    let part = |part: &Detail| format!("{} ({})", units.format(part.bytes.magnitude()), part.name);
    let parts: Vec<String> = parts.iter().map(part).collect();
    Some(format!("df does not count {} of the device's {device}.", list(&parts)))
}

fn reserve(capacity: &Capacity, units: Units) -> Option<String> {
    let (blocks, clusters) = (capacity.reserved_blocks_bytes?, capacity.reserved_clusters_bytes?);
    let for_itself = "ext4 itself, for data that it still has to write out".to_owned();
    let parts = [(blocks, capacity.reserved_for().to_string()), (clusters, for_itself)].into_iter();
    let parts = parts.filter(|(bytes, _)| *bytes > Bytes::ZERO);
    let parts: Vec<String> =
        parts.map(|(bytes, whom)| format!("{} for {whom}", units.format(bytes))).collect();
    if parts.is_empty() {
        return None;
    }
    let free = capacity.free_bytes;
    let left = if free >= blocks + clusters || free != capacity.reserved_bytes {
        String::new()
    } else if free == Bytes::ZERO {
        " None of that is left.".to_owned()
    } else {
        format!(" Only {} of that are left.", units.format(free))
    };
    Some(format!("Set aside: {}.{left}", list(&parts)))
}
