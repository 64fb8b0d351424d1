// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who starts the command: an environment is not trusted, and rights of the program's file are not lent
//! to its caller for more than to look.

use nix::unistd::{getegid, geteuid, getgid, getuid};

use super::args::{Command, Common};
use crate::sys::environment;

/// The variables that decide how a report looks. No other one is read, also not by a library:
/// `RAYON_NUM_THREADS` or `RUST_MIN_STACK` would decide how many threads there can be.
const LOOKS: [&str; 10] = [
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "NO_COLOR",
    "TERM",
];

/// Removes the rest of the environment, and refuses to run for another user than the one who started it.
pub(super) fn check() -> Result<(), String> {
    environment::keep_only(&LOOKS);
    if getuid() == geteuid() && getgid() == getegid() {
        return Ok(());
    }
    Err("whyfull does not run set-user-ID or set-group-ID: every caller would get the rights of its owner; \
         use sudo"
        .to_owned())
}

/// Why a command is refused where the program's file has capabilities (setcap(8)) and its caller has not:
/// they may look, and would reach files, too, that the caller may not write or read.
pub(super) fn refusal(command: &Command) -> Option<String> {
    // Root gets no capabilities from files (capabilities(7)); what is told to be secure there is an LSM's.
    if getuid().is_root() || !environment::has_lent_rights() {
        return None;
    }
    let what = match command {
        Command::Recover(_) => "recover",
        Command::Release(_) => "release",
        Command::Explain(args) => beyond_looking(&args.common)?,
        Command::Deleted(args) => beyond_looking(&args.common)?,
    };
    Some(format!("{what}: refused, because it would use capabilities that whyfull's file has and you do not"))
}

/// Standard output is open already, with the caller's own rights.
fn beyond_looking(common: &Common) -> Option<&'static str> {
    let output = common.output.is_some().then_some("--output");
    output.or(common.root.is_some().then_some("--root"))
}
