// SPDX-License-Identifier: MIT OR Apache-2.0

//! How paths and times stand in JSON. A path that is no UTF-8 is given lossily under
//! its name, and exactly, in Base64, under the same name with `_base64`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serializer;
use serde::ser::SerializeMap;

fn named<S: Serializer>(
    path: Option<&Path>,
    [name, exact]: [&'static str; 2],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry(name, &path.map(Path::to_string_lossy))?;
    if let Some(path) = path.filter(|path| path.to_str().is_none()) {
        map.serialize_entry(exact, &STANDARD.encode(path.as_os_str().as_bytes()))?;
    }
    map.end()
}

pub(super) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    named(Some(path), ["path", "path_base64"], serializer)
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
pub(super) fn optional_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    named(path.as_deref(), ["path", "path_base64"], serializer)
}

pub(super) fn mountpoint<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    named(Some(path), ["mountpoint", "mountpoint_base64"], serializer)
}

pub(super) fn root<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    named(Some(path), ["root", "root_base64"], serializer)
}

pub(super) fn source<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    named(Some(path), ["source", "source_base64"], serializer)
}

pub(super) fn destination<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    named(Some(path), ["destination", "destination_base64"], serializer)
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
pub(super) fn index<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    named(path.as_deref(), ["index", "index_base64"], serializer)
}

/// RFC 3339, UTC, whole seconds.
pub(super) fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
pub(super) fn optional_time<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(at) => self::time(at, serializer),
        None => serializer.serialize_none(),
    }
}
