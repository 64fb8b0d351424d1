// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be typed for the two commands that write.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;

use super::duration;
use crate::commands::recover;
use crate::commands::release;
use crate::commands::verified_file::Wanted;
use crate::model::bytes::Units;
use crate::model::file_spec::FileSpec;

pub(super) const RECOVER_USAGE: &str = "whyfull recover [OPTIONS] <WHAT> <DEST>\n       \
    whyfull recover [OPTIONS] --all <DIR>";

/// The command `recover`.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Recover {
    /// PID:FD, PID:map, PID:exe or inode:N, as the table of deleted files prints it
    #[arg(value_name = "WHAT", required_unless_present = "all")]
    what: Option<FileSpec>,

    /// A path that does not exist yet, or a directory, in which the copy gets the file's last name
    #[arg(value_name = "DEST", required_unless_present = "all")]
    destination: Option<PathBuf>,

    /// Copy all deleted files into DIR, with an index
    #[arg(long, value_name = "DIR", conflicts_with_all = ["what", "destination", "inode", "follow"])]
    all: Option<PathBuf>,

    #[command(flatten)]
    which: Which,

    /// Keep copying what is written until the holder closes the file
    #[arg(long)]
    follow: bool,

    /// Keep mode, owner, times and extended attributes [default: only you may read it]
    #[arg(short, long)]
    preserve: bool,

    /// Return only when the copy is on the disk
    #[arg(long)]
    sync: bool,

    /// Replace an existing file
    #[arg(short, long)]
    force: bool,

    #[command(flatten)]
    pub(crate) basics: Basics,
}

/// The command `release`.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Release {
    /// PID:FD, PID:map or inode:N, as the table of deleted files prints it
    #[arg(value_name = "WHAT")]
    what: FileSpec,

    #[command(flatten)]
    which: Which,

    /// Truncate the file and reset its writer's offset, instead of punching a hole
    #[arg(long)]
    truncate: bool,

    /// Unmount inode:N, in any mount namespace, if only mounts keep it
    #[arg(long, requires = "filesystem", conflicts_with_all = ["truncate", "force", "inode"])]
    pub(crate) unmount: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Only show what would be done
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,

    /// Also release the disk of a loop device or, with --truncate, a mapped file
    #[arg(short, long)]
    force: bool,

    #[command(flatten)]
    pub(crate) basics: Basics,
}

/// Which file it is, besides WHAT.
#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// Refuse if the inode number is not N, because another file has taken its place
    #[arg(long, value_name = "N")]
    inode: Option<u64>,

    /// With inode:N or --all: look on the filesystem that holds PATH
    #[arg(long, value_name = "PATH")]
    filesystem: Option<PathBuf>,
}

/// What both take.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Basics {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Give up on a filesystem that does not answer for this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// Use powers of 1000: kB, MB, GB
    #[arg(long, conflicts_with = "bytes")]
    si: bool,

    /// Print whole bytes
    #[arg(short, long)]
    bytes: bool,

    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,

    /// Print this help
    #[arg(short, long, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// What `recover` is to do.
pub(crate) enum ToRecover {
    One(recover::Request),
    All(recover::AllRequest),
}

impl Recover {
    pub(crate) fn request(&self) -> Option<ToRecover> {
        let Self { follow, preserve, sync, force, .. } = *self;
        let options = recover::Options { force, preserve, sync, follow };
        if let Some(directory) = self.all.clone() {
            let (filesystem, timeout) = (self.which.filesystem.clone(), self.basics.timeout);
            return Some(ToRecover::All(recover::AllRequest { filesystem, directory, options, timeout }));
        }
        let wanted = self.which.wanted(self.what?, &self.basics);
        Some(ToRecover::One(recover::Request { wanted, destination: self.destination.clone()?, options }))
    }
}

impl Release {
    pub(crate) fn request(&self) -> release::Request {
        let wanted = self.which.wanted(self.what, &self.basics);
        release::Request { wanted, truncate: self.truncate, force: self.force }
    }

    /// What is to be unmounted.
    pub(crate) fn mounted(&self) -> Wanted {
        self.which.wanted(self.what, &self.basics)
    }
}

impl Which {
    fn wanted(&self, what: FileSpec, basics: &Basics) -> Wanted {
        let Self { inode, filesystem } = self.clone();
        Wanted { what, filesystem, inode, timeout: basics.timeout }
    }
}

impl Basics {
    pub(crate) fn units(&self) -> Units {
        match (self.bytes, self.si) {
            (true, _) => Units::Plain,
            (false, true) => Units::Decimal,
            (false, false) => Units::Binary,
        }
    }
}
