// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the two commands that write have done. The fields that tell of the file are
//! those of the report.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use super::{DeletedFile, Skipped, Tool, names, serialize};
use crate::model::bytes::{Bytes, Gap};
use crate::model::methods::{CopyMethod, ReleaseMethod};

/// What `recover` did.
#[derive(Clone, Debug, Serialize)]
pub struct Recovered {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Who did it.
    pub tool: Tool,
    /// The file as it was named: `1841:412`.
    pub what: String,
    /// The deleted file.
    #[serde(flatten)]
    pub file: DeletedFile,
    /// Its copy.
    #[serde(flatten)]
    pub copied: Copied,
}

/// A copy.
#[derive(Clone, Debug, Serialize)]
pub struct Copied {
    /// Where it is.
    #[serde(flatten, serialize_with = "serialize::destination")]
    pub destination: PathBuf,
    /// How it was made.
    #[serde(serialize_with = "names::CopyMethod::serialize")]
    pub method: CopyMethod,
    /// Its apparent size.
    pub length_bytes: Bytes,
    /// How much of that is data; the rest are holes.
    pub copied_bytes: Bytes,
    /// What else is to be known, in sentences for people.
    pub notes: Vec<String>,
}

/// What `recover --all` did: also the contents of the index file.
#[derive(Clone, Debug, Serialize)]
pub struct Index {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Who did it.
    pub tool: Tool,
    /// When.
    #[serde(serialize_with = "serialize::time")]
    pub started: SystemTime,
    /// Whether everything that may be there was found and saved.
    pub complete: bool,
    /// Whether it was ended early.
    pub interrupted: bool,
    /// Where the index file is; none if it could not be written.
    #[serde(flatten, serialize_with = "serialize::index")]
    pub index: Option<PathBuf>,
    /// Every deleted file that was found.
    pub files: Vec<Saved>,
    /// What could not be looked at, and may hold more.
    pub skipped: Vec<Skipped>,
}

/// One of the files of `recover --all`.
#[derive(Clone, Debug, Serialize)]
pub struct Saved {
    /// Where its filesystem is mounted.
    #[serde(flatten, serialize_with = "serialize::mountpoint")]
    pub mountpoint: PathBuf,
    /// The deleted file.
    #[serde(flatten)]
    pub file: DeletedFile,
    /// Its copy, if there is one.
    pub copied: Option<Copied>,
    /// Why there is none.
    pub error: Option<String>,
}

/// What `release` did or, before it is `done`, what it will do.
#[derive(Clone, Debug, Serialize)]
pub struct Released {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Who did it.
    pub tool: Tool,
    /// The file as it was named: `1841:412`.
    pub what: String,
    /// Where that counts, if it is an inode number.
    #[serde(skip)]
    pub filesystem: Option<PathBuf>,
    /// The deleted file, before anything was done, with all who were found to hold it.
    #[serde(flatten)]
    pub file: DeletedFile,
    /// How.
    #[serde(serialize_with = "names::ReleaseMethod::serialize")]
    pub method: ReleaseMethod,
    /// Whether it was done.
    pub done: bool,
    /// What the file let go of.
    pub freed_bytes: Option<Bytes>,
    /// By how much the filesystem's free space has grown: what df shows.
    pub regained_bytes: Option<Gap>,
    /// What was appended to it behind the end that the plan shows, and stays; none before it is done.
    pub appended_bytes: Option<Bytes>,
    /// What else is to be known, in sentences for people.
    pub notes: Vec<String>,
}
