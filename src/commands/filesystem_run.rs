// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a run has learnt of one filesystem.

use std::path::Path;
use std::result;

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use crate::commands::count::{Counted, Damage};
use crate::holders::Scan;
use crate::model::bytes::Bytes;
use crate::model::limits::Limits;
use crate::model::skips::{Kind, Skip};
use crate::model::usage::Tally;
use crate::mounts::locate::Target;
use crate::statvfs::Samples;

/// One filesystem at the end of the run.
pub(crate) struct FilesystemRun {
    pub(crate) target: Target,
    pub(crate) samples: result::Result<Samples, Errno>,
    pub(crate) counted: Counted,
    pub(crate) scan: Scan,
    pub(crate) limits: Limits,
    /// How far it may be from one moment's truth.
    pub(crate) moved: Bytes,
    /// What no name leads to, though it has one by its own count: a crash or damage took the directory away.
    pub(crate) lost: Tally,
}

impl FilesystemRun {
    /// All that could not be looked at.
    pub(crate) fn skips(&self) -> Vec<Skip> {
        let mountpoint = &self.target.mount.mountpoint;
        let samples = match &self.samples {
            Ok(samples) => (!samples.answered).then_some(Errno::ETIMEDOUT),
            Err(errno) => Some(*errno),
        };
        let mut skips: Vec<Skip> =
            samples.map(|errno| Skip::new(Kind::Filesystem, mountpoint, errno)).into_iter().collect();
        if self.samples.is_err() {
            return skips;
        }
        match &self.counted.census {
            Ok(walk) => {
                // An overlay is walked itself only where the filesystem below it cannot be seen.
                let partial = self.target.mount.root != Path::new("/") || self.target.mount.is_overlay();
                match &walk.outside {
                    Err(errno) => skips.push(Skip::new(Kind::Outside, mountpoint, *errno)),
                    Ok(None) if partial => skips.push(Skip::new(Kind::Outside, mountpoint, None)),
                    Ok(_) => {}
                }
                if let Err(errno) = &walk.hidden {
                    let covers = self.target.covers.iter();
                    skips.extend(covers.map(|cover| Skip::new(Kind::Mount, &cover.mountpoint, *errno)));
                }
                skips.extend(walk.skips.iter().cloned());
            }
            Err(errno) => skips.push(Skip::new(Kind::Directory, mountpoint, *errno)),
        }
        skips.extend(self.scan.skips.iter().cloned());
        self.add_damage(&mut skips);
        skips
    }

    /// Damage that is not among them yet: what is known by its number only, or, where nothing at all is known
    /// of where it is, that there is some.
    fn add_damage(&self, skips: &mut Vec<Skip>) {
        let mountpoint = &self.target.mount.mountpoint;
        let is_named = |skip: &&Skip| skip.kind != Kind::Inode;
        let named: FxHashSet<u64> = skips.iter().filter(is_named).filter_map(|skip| skip.inode).collect();
        skips.retain(|skip| is_named(&skip) || skip.inode.is_none_or(|inode| !named.contains(&inode)));
        let known: FxHashSet<u64> = skips.iter().filter_map(|skip| skip.inode).collect();
        let damaged = self.counted.internal.iter().flat_map(|internal| &internal.damaged);
        let damaged = damaged.filter(|damaged| !known.contains(&damaged.inode));
        skips.extend(damaged.map(|damaged| damaged.skip(mountpoint)));
        if skips.iter().any(Skip::is_damage) {
            return;
        }
        let Damage { tables, met } = &self.counted.damage;
        let skip = |kind| Skip::new(kind, mountpoint, Errno::EUCLEAN);
        skips.extend(met.inodes.iter().map(|inode| skip(Kind::LeftOut).of_inode(*inode)));
        if met.inodes.is_empty() && met.any {
            skips.push(skip(Kind::LeftOut));
        } else if *tables && !met.any {
            skips.push(skip(Kind::InodeTables));
        }
    }
}
