// SPDX-License-Identifier: MIT OR Apache-2.0

//! An overlay of the test's own.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::filesystem::Filesystem;

/// An overlay whose upper layer is on `upper`, mounted at `at`.
pub(crate) struct Overlay {
    pub(crate) at: PathBuf,
    pub(crate) upper: PathBuf,
}

impl Overlay {
    pub(crate) fn new(lower: &Path, upper: &Filesystem, name: &str) -> Self {
        let [at, layer, work] = ["merged", "upper", "work"].map(|part| format!("{name}-{part}"));
        let at = upper.beside(&at);
        let (layer, work) = (upper.path().join(layer), upper.path().join(work));
        fs::create_dir(&layer).unwrap();
        fs::create_dir(&work).unwrap();
        let [lower, layer_name, work] = [lower, &layer, &work].map(|path| path.to_str().unwrap());
        let options = format!("lowerdir={lower},upperdir={layer_name},workdir={work}");
        let overlay = Some("overlay");
        mount(overlay, &at, overlay, MsFlags::empty(), Some(options.as_str())).unwrap();
        Self { at, upper: layer }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}
