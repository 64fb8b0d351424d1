//! The command line: from arguments to a request, from a report to a terminal or a
//! file, and to an exit status. The only room that knows clap and terminals.

mod args;
mod exit;
mod output;
mod progress;
mod terminal;

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::SystemTime;

use anstream::adapter::strip_str;
use clap::Parser;
use clap::error::ErrorKind;

use crate::error::describe;
use crate::explain;
use crate::monitor::Monitor;
use crate::report::text::Style;
use crate::report::{Report, json, text};
use args::{Args, Format};
pub use exit::Exit;
use output::Output;
use progress::Progress;

/// Runs the command with these arguments, the program's name first. Prints to stdout and stderr.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    // A file that cannot be written is found out before the work is done.
    let output = match Output::open(args.output.as_deref()) {
        Ok(output) => output,
        Err(error) => return fail(&output::failure(args.output.as_deref(), &error)),
    };
    let monitor = Monitor::default();
    if let Err(error) = exit::cancel_on_interrupt(&monitor) {
        return fail(&format!("SIGINT: {}", describe(&error)));
    }
    let progress = Progress::show(&monitor, args.shows_progress());
    let explained = explain(&args.request(), &monitor);
    drop(progress);
    let report = match explained {
        Ok(report) => report,
        Err(error) => return fail(&error.to_string()),
    };
    match print(&report, &args, output) {
        // Whoever read the report has seen enough of it.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&output::failure(args.output.as_deref(), &error))
        }
        _ if report.interrupted => Exit::Interrupted,
        _ if report.complete => Exit::Complete,
        _ => Exit::Incomplete,
    }
}

fn print(report: &Report, args: &Args, output: Output) -> io::Result<()> {
    let bytes = match args.format() {
        Format::Json => json::render(report)?,
        Format::Text => {
            let style = Style {
                width: terminal::width(args.output.is_none()),
                unicode: terminal::is_unicode(),
                units: args.units(),
                top: args.top,
                directories: args.lists_directories(),
                detail: args.detail(),
                now: SystemTime::now(),
            };
            let text = text::render(report, &style);
            let colored = output.takes_color(args.color.into());
            if colored { text.into_bytes() } else { strip_str(&text).to_string().into_bytes() }
        }
    };
    output.write(&bytes)
}

/// Help and version are answers; anything else is a usage error, told in one line.
fn refuse(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody is left to tell when this cannot be printed.
        let _ = error.print();
        return Exit::Complete;
    }
    let text = error.render().to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let first = first.join(" ");
    fail(&format!("{} (see whyfull --help)", first.strip_prefix("error: ").unwrap_or(&first)))
}

fn fail(message: &str) -> Exit {
    // Names in it are escaped already; a backslash must not be doubled.
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // Where stderr is full or closed, the status alone has to tell.
    let _ = writeln!(io::stderr(), "whyfull: {line}");
    Exit::Failure
}
