// SPDX-License-Identifier: MIT OR Apache-2.0

//! What this process was started with: its environment, and rights that its caller does not have.

use std::ffi::OsStr;
use std::fs;

/// Removes every variable from the environment but these. Nothing is done where this process has more than
/// one thread, as a program that uses this library may: only its own main function may do so.
pub fn keep_only(names: &[&str]) {
    if fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() != 1) {
        return;
    }
    for (name, _) in std::env::vars_os() {
        // std::env::remove_var panics on such names, and the C library does not find them.
        let has_a_name = !name.is_empty() && !name.as_encoded_bytes().contains(&b'=');
        if has_a_name && !names.iter().any(|kept| OsStr::new(kept) == name) {
            // SAFETY: there is no other thread that could read the environment meanwhile.
            unsafe { std::env::remove_var(&name) };
        }
    }
}

/// Whether the program's file gave this process rights that its caller does not have: `AT_SECURE` in
/// getauxval(3).
pub fn has_lent_rights() -> bool {
    // SAFETY: takes a number and returns one.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
