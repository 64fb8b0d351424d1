// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the process does about the limits that it was started with: getrlimit(2).

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// More descriptors than a run needs: one for each of very many filesystems.
const DESCRIPTORS: u64 = 1 << 16;

/// To be called before there is a second thread.
pub fn adapt() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard.min(DESCRIPTORS)
    {
        // What is refused stays as it is.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(DESCRIPTORS), hard);
    }
    if getrlimit(Resource::RLIMIT_AS).is_ok_and(|(soft, _)| soft != RLIM_INFINITY) {
        share_memory();
    }
}

/// Each thread would reserve 64 MiB of addresses for memory of its own: malloc(3), `M_ARENA_MAX` in mallopt(3).
fn share_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers only, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
