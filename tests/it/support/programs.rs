// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the system's own programs and control groups are, as a test has them.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::filesystem::{Filesystem, bind};
use super::holder;

/// Makes the holder a program of the system's of that name, for what this test starts: a layer over
/// `/usr/sbin`.
pub(crate) fn install(fs: &Filesystem, name: &str) -> PathBuf {
    let layer = fs.beside(format!("layer-{name}"));
    fs::copy(holder::program(), layer.join(name)).unwrap();
    let options = format!("lowerdir={}:/usr/sbin", layer.display());
    mount(Some("overlay"), "/usr/sbin", Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())).unwrap();
    Path::new("/usr/sbin").join(name)
}

/// Lets /proc say, in this test only, that a process is in a control group of that name.
pub(crate) fn in_control_group(fs: &Filesystem, pid: u64, path: &str) {
    let text = fs.beside(format!("of-{pid}")).join("cgroup");
    fs::write(&text, format!("0::{path}\n")).unwrap();
    bind(&text, Path::new(&format!("/proc/{pid}/cgroup")));
}
