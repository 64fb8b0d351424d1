// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies deleted files out. The source is only read; what is written is one new
//! file, which has its name when it is whole and not before.

mod all;
mod attributes;
mod copy;
mod destination;
mod follow;

use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::commands::assemble;
use crate::commands::refusal::Refusal;
use crate::commands::verified_file::{Opened, Wanted};
use crate::filesystems;
use crate::model::bytes::{Bytes, Units};
use crate::model::errno::errno;
use crate::model::file_spec::{FileSpec, Handle};
use crate::model::methods::CopyMethod;
use crate::model::monitor::Monitor;
use crate::mounts::locate;
use crate::report::{Copied, Recovered, SCHEMA_VERSION, Tool};
use crate::statvfs;
pub use all::{AllRequest, recover_all};
use copy::{Copier, Failure};
use destination::Destination;
use follow::Ended;

/// How a copy is made.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Options {
    /// Replace a file that is there.
    pub force: bool,
    /// Keep mode, owner, times and extended attributes; else only the caller may read the copy.
    pub preserve: bool,
    /// Return only when the copy is on the disk.
    pub sync: bool,
    /// Go on with what is written until the holder closes the file.
    pub follow: bool,
}

/// What to recover, and to where.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file.
    pub wanted: Wanted,
    /// A path where nothing is yet, or a directory, in which the copy gets the file's last name.
    pub destination: PathBuf,
    /// How.
    pub options: Options,
}

/// Copies one deleted file. `monitor` shows how far it is and can end it, which leaves nothing behind.
pub fn recover(request: &Request, monitor: &Monitor) -> Result<Recovered, Refusal> {
    let Request { wanted, destination, options } = request;
    let mounts = locate::read_mounts(filesystems::TRAITS_OF)?;
    let opened = Opened::open(wanted, &mounts)?;
    destination::reach(destination, wanted.timeout)?;
    let name = destination::former_name(opened.name.path(), opened.stat.inode);
    let (directory, name) = destination::directory_and_name(destination, name)?;
    let destination = Destination::new(&directory, &name, options.force)?;
    let copied = save(&opened, &destination, *options, monitor)?;
    Ok(Recovered {
        schema_version: SCHEMA_VERSION,
        tool: Tool::this(),
        what: wanted.what.to_string(),
        file: (&assemble::described(&opened.held(), wanted.timeout)).into(),
        copied,
    })
}

/// Copies `opened` to `destination`.
fn save(
    opened: &Opened,
    destination: &Destination<'_>,
    options: Options,
    monitor: &Monitor,
) -> Result<Copied, Refusal> {
    let descriptor = match opened.what {
        FileSpec::Held { handle: Handle::Descriptor(number), .. } => Some(number),
        what if options.follow => return Err(Refusal::NothingToFollow(what)),
        _ => None,
    };
    monitor.settle(false);
    let source = opened.reader()?;
    let temporary = destination.begin()?;
    let failed = |failure| match failure {
        Failure::Source(errno) => Refusal::system(&opened.what, errno),
        Failure::Copy(errno) => destination.failed(errno),
    };
    let before = metadata(&source).map_err(|errno| failed(Failure::Source(errno)))?;
    let mut copier = Copier::new(&source, temporary.file(), monitor);
    let shared = copier.share().map_err(failed)?;
    if !shared {
        has_room(destination, &copier, before.len())?;
        copier.copy_to(before.len()).map_err(failed)?;
        if monitor.is_cancelled() && copier.end() < before.len() {
            return Err(Refusal::Interrupted);
        }
    }
    let mut notes = Vec::new();
    match descriptor.filter(|_| options.follow) {
        Some(number) => {
            let ended = follow::follow(&mut copier, opened, number, monitor).map_err(failed)?;
            notes.extend(ended_early(ended));
        }
        None => notes.extend(changed(&source, &before, &copier, shared)),
    }
    let (length, data) = copier.finish().map_err(failed)?;
    if options.preserve {
        notes.extend(attributes::preserve(&source, temporary.file()).map_err(failed)?);
    }
    monitor.settle(true);
    if options.sync {
        temporary.file().sync_all().map_err(|error| destination.failed(errno(&error)))?;
    }
    destination.publish(temporary)?;
    Ok(Copied {
        destination: destination.path(),
        method: if shared { CopyMethod::Reflink } else { CopyMethod::Copy },
        length_bytes: Bytes(length),
        copied_bytes: Bytes(data),
        notes,
    })
}

/// Whether the copy fits: what is allocated is an upper limit that costs nothing to know; only if that
/// does not fit, the data is added up.
fn has_room(destination: &Destination<'_>, copier: &Copier<'_>, length: u64) -> Result<(), Refusal> {
    let Ok(capacity) = statvfs::read(destination.directory().as_fd()) else { return Ok(()) };
    if capacity.size == Bytes::ZERO {
        // A filesystem without a size of its own.
        return Ok(());
    }
    let available = if geteuid().is_root() { capacity.free } else { capacity.available };
    let fits = |needed: u64| Bytes(needed) <= available;
    if fits(copier.allocated()) || copier.data_up_to(length).is_ok_and(fits) {
        return Ok(());
    }
    let needed = Bytes(copier.data_up_to(length).unwrap_or(length));
    Err(Refusal::NoSpace { path: destination.directory().path().to_owned(), needed, available })
}

/// What to say when the file was changed while it was copied.
fn changed(source: &File, before: &Metadata, copier: &Copier<'_>, shared: bool) -> Option<String> {
    let after = metadata(source).ok()?;
    let units = Units::Binary;
    if after.len() > copier.end() {
        return Some(format!(
            "It is still being written. The copy ends at {} ({} bytes); --follow continues until the file is closed.",
            units.format(Bytes(copier.end())),
            copier.end()
        ));
    }
    if after.len() < copier.end() {
        return Some(format!(
            "It was truncated to {} while it was copied.",
            units.format(Bytes(after.len()))
        ));
    }
    let written = after.modified().ok() != before.modified().ok();
    (written && !shared).then(|| {
        "It was written to while it was copied, so parts of the copy may be from different moments."
            .to_owned()
    })
}

fn ended_early(ended: Ended) -> Option<String> {
    match ended {
        Ended::Closed => None,
        Ended::Cut(length) => Some(format!(
            "Its program truncated it to {}. The copy has what was written before that, and nothing after.",
            Units::Binary.format(Bytes(length))
        )),
        Ended::Interrupted => Some(
            "Interrupted while its program still had it open. The copy has what was written until then."
                .to_owned(),
        ),
    }
}

fn metadata(file: &File) -> Result<Metadata, Errno> {
    file.metadata().map_err(|error| errno(&error))
}
