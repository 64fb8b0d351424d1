// SPDX-License-Identifier: MIT OR Apache-2.0

//! How close the ledger comes to zero on a filesystem that is written to meanwhile:
//! `cargo bench --bench busy -- --help`.

mod support {
    pub(crate) mod filesystem;
    pub(crate) mod interrupt;
    pub(crate) mod programs;
    pub(crate) mod start;
    pub(crate) mod trees;
}

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use support::filesystem::Filesystem;
use support::interrupt;
use support::start::Start;
use support::trees::{self, Tree};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
/// How many files each writer has at a time, and what is written to one.
const FILES: u64 = 400;
const SIZES: [usize; 3] = [1_000, 50_000, 1_000_000];
/// For the first files to be there.
const WARM_UP: Duration = Duration::from_secs(3);

/// Runs whyfull on a filesystem on which writers make, overwrite, cut and delete files all the time.
///
/// What it leaves unexplained has to be within the bound that it prints, or the benchmark fails.
#[derive(Parser)]
#[command(name = "busy", bin_name = "cargo bench --bench busy --")]
struct Args {
    /// Entries that keep still
    #[arg(long, default_value_t = 300_000, value_name = "N")]
    entries: u64,
    /// How many write at once
    #[arg(long, default_value_t = 2, value_name = "N")]
    writers: u64,
    /// Runs for each way of writing and of counting
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    #[command(flatten)]
    start: Start,
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.start.run("busy", || measure_all(&args))
}

fn measure_all(args: &Args) -> Result<()> {
    let (name, program) = args.start.prepare()?;
    let room = trees::room(args.entries) + 2 * args.writers * FILES * MIB;
    let filesystem = Filesystem::new(None, room, args.entries * 2 + args.writers * FILES)?;
    Tree::Wide.generate(filesystem.root(), args.entries)?;
    println!(
        "### {name}, {} quiet entries, {} writers, {} rounds\n",
        args.entries, args.writers, args.rounds
    );
    println!("| writing | counted | median s | bound, of what is used | unexplained | outside the bound |");
    println!("| --- | --- | --: | --: | --: | --: |");
    let mut outside = 0;
    for (writing, syncs) in [("in memory", false), ("with fsync", true)] {
        for (method, runs) in beside_writers(filesystem.root(), args, syncs, &program)? {
            outside += runs.iter().filter(|run| run.is_outside()).count();
            print_row(writing, method, &runs);
        }
    }
    println!();
    if outside > 0 {
        return Err(format!("{outside} runs left more unexplained than they said they might").into());
    }
    Ok(())
}

/// What one run printed.
struct Run {
    wall: Duration,
    used: u64,
    bound: u64,
    unexplained: u64,
}

impl Run {
    fn is_outside(&self) -> bool {
        self.unexplained > self.bound
    }
}

/// Runs both methods in turns while the writers write.
fn beside_writers(
    root: &Path,
    args: &Args,
    syncs: bool,
    program: &str,
) -> Result<[(&'static str, Vec<Run>); 2]> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..args.writers {
            let done = &done;
            scope.spawn(move || write(&root.join(format!("writer{number}")), number, syncs, done));
        }
        thread::sleep(WARM_UP);
        let mut all = [("table", Vec::new()), ("walk", Vec::new())];
        let mut rounds = || {
            for _ in 0..args.rounds {
                for (method, runs) in &mut all {
                    runs.push(explain(program, method, root)?);
                }
                if interrupt::interrupted() {
                    return Err("interrupted".into());
                }
            }
            Ok(())
        };
        let ended: Result<()> = rounds();
        done.store(true, Ordering::Relaxed);
        ended.map(|()| all)
    })
}

/// Makes, overwrites, cuts and deletes files until it is told to stop. A full disk is no reason to.
fn write(root: &Path, seed: u64, syncs: bool, done: &AtomicBool) {
    let mut drawn = seed << 32;
    let mut any = |below: u64| {
        drawn += 1;
        trees::scramble(drawn) % below
    };
    let content = vec![b'y'; SIZES[SIZES.len() - 1]];
    let _ = fs::create_dir(root);
    while !done.load(Ordering::Relaxed) {
        let path = root.join(any(FILES).to_string());
        let (what, size) = (any(4), SIZES[usize::try_from(any(3)).unwrap_or(0)]);
        let _ = match what {
            0 => fs::remove_file(&path),
            what => overwrite(&path, what == 1, &content[..size])
                .and_then(|file| if syncs && what == 2 { file.sync_all() } else { Ok(()) }),
        };
    }
}

fn overwrite(path: &Path, cut: bool, content: &[u8]) -> io::Result<File> {
    let file = OpenOptions::new().create(true).write(true).truncate(cut).open(path)?;
    file.write_all_at(content, 0)?;
    Ok(file)
}

fn explain(program: &str, method: &str, root: &Path) -> Result<Run> {
    let start = Instant::now();
    let output =
        Command::new(program).args(["--json", "--no-progress", "--method", method]).arg(root).output()?;
    let wall = start.elapsed();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let filesystem = &report["filesystems"][0];
    let ledger = filesystem["ledger"].as_array().ok_or("no ledger")?;
    let rest = ledger.iter().find(|row| row["cause"] == "unexplained").ok_or("no remainder")?;
    let number = |value: &serde_json::Value| value.as_u64().ok_or("a number is missing");
    Ok(Run {
        wall,
        used: number(&filesystem["capacity"]["used_bytes"])?,
        bound: number(&filesystem["unexplained_bound_bytes"])?,
        unexplained: rest["bytes"].as_i64().ok_or("a number is missing")?.unsigned_abs(),
    })
}

fn print_row(writing: &str, method: &str, runs: &[Run]) {
    let middle_and_most = |share: fn(&Run) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(share).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[all.len() - 1])
    };
    let (wall, _) = middle_and_most(|run| run.wall.as_secs_f64());
    let (bound, most_bound) = middle_and_most(|run| percent(run.bound, run.used));
    let (rest, most_rest) = middle_and_most(|run| percent(run.unexplained, run.used));
    let outside = runs.iter().filter(|run| run.is_outside()).count();
    println!(
        "| {writing} | {method} | {wall:.2} | {bound:.2} %, at most {most_bound:.2} % | {rest:.2} %, at most \
         {most_rest:.2} % | {outside} of {} |",
        runs.len()
    );
}

// Far below 2^52 bytes.
#[allow(clippy::cast_precision_loss)]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}
