// SPDX-License-Identifier: MIT OR Apache-2.0

//! What to explain, and how.

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

/// What to explain, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The filesystems that hold these paths, each once.
    pub paths: Vec<PathBuf>,
    /// Every local filesystem, besides those of the paths.
    pub all: bool,
    /// A fixed number of threads, instead of what suits the machine.
    pub threads: Option<NonZero<usize>>,
    /// How long to wait for an answer from a filesystem that may be dead.
    pub timeout: Duration,
    /// How many of the largest directories to report.
    pub directories: usize,
    /// How deep below the root of the filesystem those may be; and names beneath mount points below
    /// those, one level if that is not said.
    pub depth: Option<usize>,
    /// How visible files are counted.
    pub method: Method,
    /// Whether to list what mount points hide. A path that is a mount point then stands for what it hides,
    /// as well as for what those on it hide.
    pub hidden: bool,
    /// How many of the largest names to list beneath each mount point, and outside of what is mounted.
    pub names: usize,
}

/// How visible files are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// From the inode tables where that can be done, else by walking.
    #[default]
    Auto,
    /// By walking through all names.
    Walk,
    /// From the inode tables, or not at all.
    Table,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            paths: vec![PathBuf::from(".")],
            all: false,
            threads: None,
            timeout: Duration::from_secs(5),
            directories: 10,
            depth: None,
            method: Method::Auto,
            hidden: false,
            names: 10,
        }
    }
}
