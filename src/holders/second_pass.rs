// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a holder is missed: a second look at what the scan has seen, at the places that cost more.

use std::collections::hash_map::Entry;
use std::fs::File;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::in_flight::{Carrier, Inside, Look, Ring};
use super::overlay::{self, Tables};
use super::patience::Patience;
use super::places::{Place, Places};
use super::process::{Proc, Sighting};
use super::{Held, Key, Scan, key};
use crate::model::deleted::Hold;
use crate::model::skips::{Kind, Skip};

/// What a scan of /proc found, and what it left open.
#[derive(Debug)]
pub struct Found {
    /// By the number of the filesystem.
    pub scans: Vec<Scan>,
    pub(super) proc: PathBuf,
    pub(super) places: Arc<Places>,
    pub(super) carriers: Vec<Carrier>,
    /// Sightings whose place is not known.
    pub(super) foreign: Vec<Sighting>,
    /// Whether that /proc has this process's own numbers.
    pub(super) same_numbers: bool,
}

impl Found {
    /// Looks for those that still hold what has no holder in `scans`, and for all where a filesystem keeps
    /// no list. Waits at most for `timeout` for one that may not answer, and twice as
    /// long for all.
    pub fn look_further(mut self, threads: Option<NonZero<usize>>, timeout: Duration) -> Vec<Scan> {
        if self.scans.iter().all(|scan| scan.knowledge().misses_nobody()) {
            return self.scans;
        }
        let inside = self.look_inside(threads, timeout);
        let (known, foreign): (Vec<_>, Vec<_>) = inside
            .sightings
            .into_iter()
            .chain(std::mem::take(&mut self.foreign))
            .map(|sighting| (sighting.place, sighting))
            .partition(|(place, _)| *place != Place::Unknown);
        self.attribute(known);
        self.resolve(foreign.into_iter().map(|(_, sighting)| sighting).collect(), timeout);
        for ring in &inside.rings {
            self.ring(ring);
        }
        for (socket, errno) in &inside.sockets {
            let skip = Skip::new(Kind::Socket, socket.path(&self.proc), *errno);
            self.suspect_everywhere(|scan| scan.suspects.sockets += 1, Some(&skip));
        }
        for scan in &mut self.scans {
            scan.sort();
        }
        self.scans
    }

    fn look_inside(&mut self, threads: Option<NonZero<usize>>, timeout: Duration) -> Inside {
        // Without /proc nothing would have been found before.
        let Ok(directory) = File::open(&self.proc) else { return Inside::default() };
        let proc = Proc { directory: directory.as_fd(), same_numbers: self.same_numbers };
        let look = Look { proc, places: &self.places, threads, patience: Patience::new(timeout) };
        look.inside(std::mem::take(&mut self.carriers))
    }

    /// Adds what was seen to the scans of the filesystems it belongs to.
    fn attribute(&mut self, sightings: Vec<(Place, Sighting)>) {
        let mut known: FxHashMap<(usize, Key), usize> = FxHashMap::default();
        for (number, scan) in self.scans.iter().enumerate() {
            known.extend(scan.held.iter().enumerate().map(|(index, held)| ((number, held.key()), index)));
        }
        for (place, Sighting { stat, name, hold, .. }) in sightings {
            let Place::On(number) = place else { continue };
            let Some(scan) = self.scans.get_mut(number) else { continue };
            match known.entry((number, key(&stat))) {
                Entry::Occupied(entry) => {
                    let held = &mut scan.held[*entry.get()];
                    held.name.or(name);
                    held.holds.push(hold);
                }
                Entry::Vacant(entry) => {
                    entry.insert(scan.held.len());
                    scan.held.push(Held { stat, name, holds: vec![hold], kernel: Vec::new() });
                }
            }
        }
    }

    /// Finds out where the sightings belong whose device does not tell.
    fn resolve(&mut self, foreign: Vec<Sighting>, timeout: Duration) {
        let proc = self.proc.clone();
        let mut tables = Tables::new(&proc, self.places.traits_of, timeout);
        let mut resolved = Vec::new();
        let mut unresolved: FxHashMap<Key, Option<PathBuf>> = FxHashMap::default();
        for sighting in foreign {
            let Some(mount) = tables.mount_of(&sighting) else { continue };
            if !mount.is_overlay() {
                // A subvolume, seen through a mount of another namespace.
                let place = self.places.devices.get(&mount.dev).map(|&number| Place::On(number));
                resolved.extend(place.map(|place| (place, sighting)));
                continue;
            }
            let upper = overlay::upper_path(&sighting, mount);
            // A filesystem that keeps no list cannot tell which of its inodes it is.
            let listed = self.scans.iter().enumerate().filter(|(_, scan)| scan.listed);
            let listed = listed.flat_map(|(number, scan)| scan.held.iter().map(move |held| (number, held)));
            match overlay::the_same(&sighting, upper.as_deref(), listed) {
                Some((number, held)) => {
                    let Held { stat, name, .. } = held.clone();
                    resolved.push((Place::On(number), Sighting { stat, name, ..sighting }));
                }
                None => drop(unresolved.insert(key(&sighting.stat), upper)),
            }
        }
        self.attribute(resolved);
        for upper in unresolved.into_values() {
            let count = |scan: &mut Scan| scan.suspects.overlays += 1;
            match upper.filter(|upper| upper.is_absolute()) {
                Some(upper) => {
                    let skip = Skip::new(Kind::Overlay, &upper, None);
                    if let Some(number) = self.places.filesystem_of(&upper) {
                        self.suspect(number, count, Some(&skip));
                    }
                }
                // It may be on any.
                None => self.suspect_everywhere(count, None),
            }
        }
    }

    /// Of a registered file only the former path is known. It is taken for the inode's only where the
    /// filesystem lists all inodes without a name, and a single one of them had that path.
    fn ring(&mut self, ring: &Ring) {
        let skip = Skip::new(Kind::Ring, ring.carrier.path(&self.proc), None);
        if ring.files.untold {
            self.suspect_everywhere(|scan| scan.suspects.rings += 1, Some(&skip));
        }
        for path in &ring.files.deleted {
            let holds = self.scans.iter_mut().filter(|scan| scan.listed).flat_map(|scan| &mut scan.held);
            let mut named: Vec<&mut Held> =
                holds.filter(|held| held.name.path() == Some(path.as_path())).collect();
            if let [held] = named.as_mut_slice() {
                add(&mut held.holds, ring.hold);
            } else if let Some(number) = self.places.filesystem_of(path) {
                self.suspect(number, |scan| scan.suspects.rings += 1, Some(&skip));
            }
        }
    }

    /// Counts something that may hold more on filesystem `number`. Where there is no list to show whether
    /// anything is missing, that is a part of it that was skipped.
    fn suspect(&mut self, number: usize, count: fn(&mut Scan), skip: Option<&Skip>) {
        let Some(scan) = self.scans.get_mut(number) else { return };
        if scan.listed {
            count(scan);
        } else if let Some(skip) = skip.filter(|skip| !scan.skips.contains(skip)) {
            scan.skips.push(skip.clone());
        }
    }

    fn suspect_everywhere(&mut self, count: fn(&mut Scan), skip: Option<&Skip>) {
        for number in 0..self.scans.len() {
            self.suspect(number, count, skip);
        }
    }
}

fn add(holds: &mut Vec<Hold>, hold: Hold) {
    if !holds.contains(&hold) {
        holds.push(hold);
    }
}
