// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be typed.

mod actions;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::commands::deleted;
use crate::commands::request::{self, Request};
use crate::model::bytes::Units;
use crate::model::group_by::GroupBy;
use crate::report::text::Detail;
pub(super) use actions::{Basics, Recover, Release, ToRecover};

/// How many holders, and how many directories in JSON, are listed unless told otherwise.
const TOP: usize = 10;

/// The disk is full, but du says otherwise: account for every byte that df calls used.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "whyfull",
    version,
    max_term_width = 100,
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 complete; 1 printed, but something that matters could not be read; 2 wrong usage or\n\
        no report.\n\
        Only recover, which writes a copy, and release, which asks first, change anything.\n\
        An ordinary user sees what that user may read; sudo shows the rest.\n\
        Write ./ in front of a path that is called like a command."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    explain: Explain,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    #[command(skip)]
    Explain(Explain),
    /// List deleted files that are still held, without counting anything else
    #[command(disable_help_flag = true)]
    Deleted(Deleted),
    /// Copy a deleted file out while something still holds it
    #[command(disable_help_flag = true, override_usage = actions::RECOVER_USAGE)]
    Recover(Recover),
    /// Free the space of a deleted file without ending the program that holds it
    #[command(disable_help_flag = true)]
    Release(Release),
}

/// The command without a name.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Explain {
    /// Explain the filesystems that hold these paths [default: .]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Explain every local filesystem, each once
    #[arg(short, long)]
    all: bool,

    /// List the largest names (see -n) under each mount point, or only under PATH if it is a mount point
    #[arg(long)]
    pub(super) hidden: bool,

    /// List the N largest directories
    #[arg(long, value_name = "N")]
    dirs: Option<usize>,

    /// List directories at most N levels below the filesystem's root; with --hidden, names at most N levels
    /// below the mount point [default with --hidden: 1]
    #[arg(short, long, value_name = "N")]
    depth: Option<usize>,

    /// How to count the files you can see
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = Method::Auto)]
    method: Method,

    /// Ignored: whyfull never enters other filesystems
    #[arg(short = 'x', long, overrides_with = "one_file_system")]
    one_file_system: bool,

    #[command(flatten)]
    pub(super) common: Common,
}

/// The command `deleted`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Deleted {
    /// Look only on the filesystems that hold these paths [default: every local one]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Add up what each process or unit holds
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Inode)]
    by: By,

    /// Look twice, this long apart, and show which files grow
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    interval: Option<Duration>,

    #[command(flatten)]
    pub(super) common: Common,
}

/// What every command takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// List at most N deleted files or hidden names
    #[arg(short = 'n', long, value_name = "N", default_value_t = TOP)]
    pub(super) top: usize,

    /// Use N threads [default: one for each core, and more while they wait for the disk]
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<NonZero<usize>>,

    /// Skip a filesystem that does not answer for this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(super) timeout: Duration,

    /// Use DIR as the root directory: for a container in which the host's root is mounted at DIR
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,

    /// Choose the output format
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,

    /// Same as --format json
    #[arg(long)]
    json: bool,

    /// Write the report to FILE; if FILE exists, replace it once the report is complete
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// Use powers of 1000: kB, MB, GB
    #[arg(long, conflicts_with = "bytes")]
    si: bool,

    /// Print whole bytes
    #[arg(short, long)]
    bytes: bool,

    /// When to use colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(super) color: Color,

    /// Show neither progress nor what was skipped
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// List everything that was skipped, and tell more of the device
    #[arg(short, long)]
    verbose: bool,

    /// Show no progress
    #[arg(long)]
    no_progress: bool,

    /// Print this help
    #[arg(short, long, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// How visible bytes are counted. Auto: from the inode tables where they can be read, which takes root
/// and ext4; else by walking.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    Auto,
    Walk,
    Table,
}

impl From<Method> for request::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Auto => Self::Auto,
            Method::Walk => Self::Walk,
            Method::Table => Self::Table,
        }
    }
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// When colour is used. Auto: on a terminal, unless `NO_COLOR` or `TERM=dumb` say otherwise.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::AlwaysAnsi,
            Color::Never => Self::Never,
        }
    }
}

/// By what deleted files are added up. Inode: each by itself.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Inode,
    Process,
    Unit,
}

fn duration(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(1);
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < SHORTEST { Err("shorter than 1ms".to_owned()) } else { Ok(duration) }
}

impl Args {
    pub(super) fn chosen(self) -> Command {
        self.command.unwrap_or(Command::Explain(self.explain))
    }
}

impl Explain {
    /// What is to be explained.
    pub(super) fn request(&self) -> Request {
        let default = Request::default();
        let paths = match (self.paths.is_empty(), self.all) {
            (true, true) => Vec::new(),
            (true, false) => default.paths,
            (false, _) => self.paths.clone(),
        };
        Request {
            paths,
            all: self.all,
            threads: self.common.threads(),
            timeout: self.common.timeout,
            directories: self.dirs.unwrap_or(TOP),
            depth: self.depth,
            method: self.method.into(),
            hidden: self.hidden,
            names: self.common.top,
        }
    }

    pub(super) fn lists_directories(&self) -> bool {
        self.dirs.is_some() || (self.depth.is_some() && !self.hidden)
    }
}

impl Deleted {
    /// What to list.
    pub(super) fn request(&self) -> deleted::Request {
        let on = Request {
            paths: self.paths.clone(),
            threads: self.common.threads(),
            timeout: self.common.timeout,
            ..Request::default()
        };
        let group_by = match self.by {
            By::Inode => None,
            By::Process => Some(GroupBy::Process),
            By::Unit => Some(GroupBy::Unit),
        };
        deleted::Request { on, interval: self.interval, group_by }
    }
}

impl Common {
    /// No more than any machine has use for: each takes memory, and time to start.
    fn threads(&self) -> Option<NonZero<usize>> {
        const MOST: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(1023);
        self.threads.map(|threads| threads.min(MOST))
    }

    pub(super) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    pub(super) fn units(&self) -> Units {
        match (self.bytes, self.si) {
            (true, _) => Units::Plain,
            (false, true) => Units::Decimal,
            (false, false) => Units::Binary,
        }
    }

    pub(super) fn detail(&self) -> Detail {
        match (self.quiet, self.verbose) {
            (true, _) => Detail::Quiet,
            (false, true) => Detail::Verbose,
            (false, false) => Detail::Normal,
        }
    }

    pub(super) fn shows_progress(&self) -> bool {
        !self.quiet && !self.no_progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::deadline::Deadline;
    use clap::CommandFactory;
    use proptest::prelude::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    /// What is taken can be waited for and printed; what is not is refused, whatever was typed.
    fn takes(text: &str) -> bool {
        let Ok(duration) = duration(text) else { return false };
        assert!(!humantime::format_duration(duration).to_string().is_empty());
        assert!(
            Deadline::after(duration).left() <= duration.max(Duration::from_mins(1))
                || duration.as_secs() > 1 << 60
        );
        true
    }

    #[test]
    fn durations_of_any_length() {
        for longest in ["18446744073709551615s", "300000000000years", "584542046090y", "1ms"] {
            assert!(takes(longest), "{longest}");
        }
        for refused in ["", "0", "0s", "1ns", "-1s", "18446744073709551616s", "584542046091y 1y", "1 parsec"]
        {
            assert!(!takes(refused), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn any_text_for_a_duration(text in "[0-9]{0,21}( ?[a-z]{1,7} ?[0-9]{0,21}){0,3}|\\PC{0,9}") {
            takes(&text);
        }

        #[test]
        fn any_number_of_any_unit(
            number: u64,
            unit in proptest::sample::select(vec!["ns", "us", "ms", "s", "min", "h", "d", "w", "months", "y"]),
            more: u64,
        ) {
            takes(&format!("{number}{unit}"));
            takes(&format!("{number}{unit} {more}y {more}ns"));
        }
    }

    #[test]
    fn help() {
        let mut command = Args::command();
        insta::assert_snapshot!("help", command.render_help());
        for name in ["deleted", "recover", "release"] {
            let subcommand = command.find_subcommand_mut(name).unwrap();
            insta::assert_snapshot!(format!("help_{name}"), subcommand.render_help());
        }
    }
}
