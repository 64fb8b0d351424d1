// SPDX-License-Identifier: MIT OR Apache-2.0

//! The report as one JSON object.

use serde::Serialize;

/// The object, indented, and a newline.
pub fn render(report: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(report)?;
    bytes.push(b'\n');
    Ok(bytes)
}
