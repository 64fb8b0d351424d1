//! The `whyfull` command.

fn main() {
    whyfull::cli::run(std::env::args_os()).end();
}
