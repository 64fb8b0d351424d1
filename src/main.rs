// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `whyfull` command.

/// Ends the command with a line and status 2 where memory runs out.
#[global_allocator]
static ALLOCATOR: whyfull::cli::Allocator = whyfull::cli::Allocator;

fn main() {
    whyfull::cli::run(std::env::args_os()).end();
}
