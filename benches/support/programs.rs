// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which programs are there, and in which version.

use std::error::Error;
use std::path::Path;
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The first word that looks like a version, if the program is there.
pub(crate) fn version(program: &str) -> Option<String> {
    let said = |flag| {
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let number = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
        text.split_whitespace().find(number).map(str::to_owned)
    };
    // lsof knows only -v.
    said("--version").or_else(|| said("-v"))
}

/// whyfull itself has to be there.
pub(crate) fn find_whyfull(path: &Path) -> Result<(String, String)> {
    let program = path.to_str().ok_or("the path of whyfull is not UTF-8")?.to_owned();
    if !path.is_file() {
        return Err(format!("{program}: no such program (--whyfull says where it is)").into());
    }
    let version = version(&program).unwrap_or_default();
    Ok((format!("whyfull {version}").trim_end().to_owned(), program))
}
