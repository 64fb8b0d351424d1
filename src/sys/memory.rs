// SPDX-License-Identifier: MIT OR Apache-2.0

//! What happens when there is no more memory: one line and a status of its own, instead of an abort.

use std::alloc::{GlobalAlloc, Layout, System};

/// What the process ends with then.
pub const EXIT_STATUS: i32 = 2;
/// And what it says.
pub const MESSAGE: &str = "not enough memory";

/// The system's allocator, for `#[global_allocator]` in a program. It ends the process where the usual
/// handler of failed allocations would abort it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

// SAFETY: everything is passed on to the system's allocator; what comes back is only compared with null.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of the same method.
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[inline]
fn checked(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        give_up();
    }
    pointer
}

/// Makes system calls only, for any lock may be held at this moment.
#[cold]
fn give_up() -> ! {
    for part in ["whyfull: ", MESSAGE, "\n"] {
        // SAFETY: the bytes live through the call. Where nobody reads them, the status tells.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(EXIT_STATUS) }
}
