// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line: from arguments to a request, from a report to a terminal or a
//! file, and to an exit status. The only room that knows clap and terminals.

mod actions;
mod args;
mod aside;
mod caller;
mod exit;
mod front;
mod output;
mod progress;
mod releasing;
mod root;
mod stream;
mod terminal;

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::SystemTime;

use anstream::adapter::strip_str;
use clap::Parser;
use clap::error::ErrorKind;

use crate::commands::deleted::deleted;
use crate::commands::explain::explain;
use crate::model::errno::describe;
use crate::model::monitor::Monitor;
use crate::report::text::Style;
use crate::report::{Run, json, text};
pub use crate::sys::memory::Allocator;
use crate::sys::{limits, signals};
use args::{Args, Command, Common, Deleted, Explain, Format};
pub use exit::Exit;
use front::Interrupts;
use output::Output;
use progress::Progress;
use root::Root;

/// Runs the command with these arguments, the program's name first. Prints to stdout and stderr.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    signals::report_size_limit();
    limits::adapt();
    exit::on_panic(|message| _ = fail(message));
    if let Err(message) = caller::check() {
        return fail(&message);
    }
    let command = match Args::try_parse_from(arguments) {
        Ok(args) => args.chosen(),
        Err(error) => return refuse(&error),
    };
    if let Some(message) = caller::refusal(&command) {
        return fail(&message);
    }
    match command {
        Command::Explain(args) => front::run(|interrupts| {
            report(&args.common, interrupts, |output, monitor| run_explain(&args, output, monitor))
        }),
        Command::Deleted(args) => front::run(|interrupts| {
            report(&args.common, interrupts, |output, monitor| run_deleted(&args, output, monitor))
        }),
        Command::Recover(args) => actions::recover(&args),
        Command::Release(args) => releasing::release(&args),
    }
}

/// Runs one of the commands that only look, and prints what it renders.
fn report(
    common: &Common,
    interrupts: Interrupts,
    render: impl FnOnce(&Output, &Monitor) -> Rendered,
) -> Exit {
    // A file that cannot be written is found out before the work is done.
    let output = match Output::open(common.output.as_deref(), common.timeout) {
        Ok(output) => output,
        Err(message) => return fail(&message),
    };
    // The writer of a file is a child of a process with one thread: only from here on there are two.
    let monitor = match interrupts.watch() {
        Ok(monitor) => monitor,
        Err(error) => return fail(&format!("SIGINT: {}", describe(&error))),
    };
    let root = match common.root.as_deref().map(|root| Root::enter(root, common.timeout)).transpose() {
        Ok(root) => root,
        Err(message) => return fail(&message),
    };
    let rendered = render(&output, &monitor);
    // The report goes to a file outside of it.
    drop(root);
    let (bytes, exit) = match rendered {
        Ok(rendered) => rendered,
        Err(error) => return fail(&error.to_string()),
    };
    match output.write(&bytes) {
        Ok(()) => exit,
        Err(message) => fail(&message),
    }
}

/// What is to be printed, and how the command ends then.
type Rendered = Result<(Vec<u8>, Exit), Box<dyn std::error::Error>>;

fn run_explain(args: &Explain, output: &Output, monitor: &Monitor) -> Rendered {
    let progress = Progress::show(monitor, args.common.shows_progress());
    let report = explain(&args.request(), monitor)?;
    drop(progress);
    let bytes = match args.common.format() {
        Format::Json => json::render(&report)?,
        Format::Text => {
            let style = Style { hidden: args.hidden, ..style(&args.common, args.lists_directories()) };
            colored(&text::render(&report, &style), &args.common, output)
        }
    };
    Ok((bytes, exit(&report.run)))
}

fn run_deleted(args: &Deleted, output: &Output, monitor: &Monitor) -> Rendered {
    let report = deleted(&args.request(), monitor)?;
    let bytes = match args.common.format() {
        Format::Json => json::render(&report)?,
        Format::Text => {
            let style = style(&args.common, false);
            colored(&text::render_deleted(&report, &style), &args.common, output)
        }
    };
    Ok((bytes, exit(&report.run)))
}

fn style(common: &Common, directories: bool) -> Style {
    Style {
        width: terminal::width(common.output.is_none()),
        unicode: terminal::is_unicode(),
        units: common.units(),
        top: common.top,
        directories,
        hidden: false,
        detail: common.detail(),
        now: SystemTime::now(),
    }
}

fn colored(text: &str, common: &Common, output: &Output) -> Vec<u8> {
    if output.takes_color(common.color.into()) {
        text.as_bytes().to_vec()
    } else {
        strip_str(text).to_string().into_bytes()
    }
}

fn exit(run: &Run) -> Exit {
    match (run.interrupted, run.complete) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Complete,
        (false, false) => Exit::Incomplete,
    }
}

/// Help and version are answers; anything else is a usage error, told in one line.
fn refuse(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = error.render();
        let text = if output::stdout_takes_color() { text.ansi().to_string() } else { text.to_string() };
        return stream::print(text.as_bytes()).map_or_else(|message| fail(&message), |()| Exit::Complete);
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
