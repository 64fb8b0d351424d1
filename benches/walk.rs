// SPDX-License-Identifier: MIT OR Apache-2.0

//! The walk against `du`, diskus and pdu on generated trees:
//! `cargo bench --bench walk -- --help`.

mod support {
    pub(crate) mod filesystem;
    pub(crate) mod interrupt;
    pub(crate) mod measure;
    pub(crate) mod programs;
    pub(crate) mod start;
    pub(crate) mod table;
    pub(crate) mod trees;
}

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use support::filesystem::Filesystem;
use support::measure::{self, Answer, Contender, Samples};
use support::start::Start;
use support::table::{self, median_wall};
use support::trees::{self, Tree};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Compares whyfull's walk with du, diskus and pdu.
///
/// Each tree is generated on an ext4 of its own, behind a loop device; the
/// contenders run in turns, and their sums have to agree to the byte.
#[derive(Parser)]
#[command(name = "walk", bin_name = "cargo bench --bench walk --")]
struct Args {
    /// The trees to walk (default: all of them)
    #[arg(long, value_enum, value_delimiter = ',')]
    tree: Vec<Tree>,
    /// Make the trees larger or smaller than usual, as in 0.1
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    scale: f64,
    /// Make each tree with this many entries
    #[arg(long, conflicts_with = "scale", value_name = "N")]
    entries: Option<u64>,
    /// Rounds that count, after one that does not
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Drop the kernel's caches before each run
    #[arg(long)]
    cold: bool,
    /// Keep the images of the filesystems here and use them the next time
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Counting methods of whyfull to enter in the race
    #[arg(long, default_value = "walk", value_delimiter = ',', value_name = "METHOD")]
    method: Vec<String>,
    #[command(flatten)]
    start: Start,
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.start.run("walk", || compare(&args))
}

fn compare(args: &Args) -> Result<()> {
    let whyfull = args.start.prepare()?;
    if args.cold {
        // Not permitted? Better said before a tree is made.
        measure::drop_caches()?;
    }
    let trees = if args.tree.is_empty() { Tree::value_variants() } else { args.tree.as_slice() };
    let peers = peers();
    for &tree in trees {
        let entries = args.entries.unwrap_or_else(|| scaled(tree.usual_entries(), args.scale));
        let filesystem = plant(tree, entries, args.keep.as_deref())?;
        let root = filesystem.root().to_str().ok_or("the temporary directory is not UTF-8")?;
        let state = if args.cold { "cold" } else { "warm" };
        println!("### {}: {entries} entries, {state}, {} rounds\n", tree.name(), args.rounds);
        let contenders = line_up(root, &peers, args, &whyfull);
        let samples = measure::race(&contenders, args.rounds.into(), args.cold)?;
        report(&contenders, &samples);
        agree(&contenders, &samples)?;
    }
    Ok(())
}

// Nobody scales a tree beyond what a float counts exactly.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
fn scaled(entries: u64, scale: f64) -> u64 {
    (entries as f64 * scale) as u64
}

/// The filesystem with its tree, new or from the last time.
fn plant(tree: Tree, entries: u64, keep: Option<&Path>) -> Result<Filesystem> {
    let (bytes, inodes) = (trees::room(entries), entries + entries / 8 + 1024);
    let Some(dir) = keep else {
        let filesystem = Filesystem::new(None, bytes, inodes)?;
        grow(tree, &filesystem, entries)?;
        return Ok(filesystem);
    };
    std::fs::create_dir_all(dir)?;
    let image = dir.join(format!("{}-{entries}.ext4", tree.name()));
    if !image.exists() {
        // Under its name only when it is complete.
        let partial = image.with_extension("partial");
        let _ = std::fs::remove_file(&partial);
        let filesystem = Filesystem::new(Some(&partial), bytes, inodes)?;
        grow(tree, &filesystem, entries)?;
        drop(filesystem);
        std::fs::rename(&partial, &image)?;
    }
    Filesystem::new(Some(&image), bytes, inodes)
}

fn grow(tree: Tree, filesystem: &Filesystem, entries: u64) -> Result<()> {
    eprintln!("  making the {} tree of {entries} entries", tree.name());
    tree.generate(filesystem.root(), entries)?;
    Ok(())
}

/// A peer that is installed, and how it prints what `du -sx` counts.
struct Peer {
    name: String,
    command: &'static [&'static str],
    answer: fn(&[u8]) -> Result<u64>,
}

impl Peer {
    fn find(
        install: &str,
        command: &'static [&'static str],
        answer: fn(&[u8]) -> Result<u64>,
    ) -> Option<Self> {
        let name = measure::find_peer(command[0], install)?;
        Some(Self { name, command, answer })
    }
}

fn peers() -> Vec<Peer> {
    let all = [
        Peer::find("apt install coreutils", &["du", "-sx", "--block-size=1"], first_number),
        // Raw bytes when it does not print to a terminal. It has no -x, and
        // needs none here: nothing is mounted inside the tree.
        Peer::find("cargo install diskus", &["diskus"], first_number),
        Peer::find("cargo install parallel-disk-usage", PDU, pdu_total),
    ];
    all.into_iter().flatten().collect()
}

/// Hard links once, one filesystem, and no more output than the total.
const PDU: &[&str] = &[
    "pdu",
    "--threads=max",
    "-H",
    "-x",
    "--max-depth=1",
    "--json-output",
    "--omit-json-shared-details",
    "--omit-json-shared-summary",
];

fn line_up(root: &str, peers: &[Peer], args: &Args, whyfull: &(String, String)) -> Vec<Contender> {
    let (name, program) = whyfull;
    let peers = peers.iter().map(|peer| Contender {
        name: peer.name.clone(),
        command: words(peer.command, root),
        answer: Box::new(peer.answer),
        also_fine: &[],
    });
    let ours = args.method.iter().map(|method| Contender {
        name: format!("{name} --method {method}"),
        command: words(&[program, "--json", "--no-progress", "--method", method], root),
        answer: Box::new(visible_bytes) as Answer,
        // 1: some process could not be looked into, which is no matter here.
        also_fine: &[1],
    });
    peers.chain(ours).collect()
}

fn words(command: &[&str], root: &str) -> Vec<String> {
    command.iter().copied().chain([root]).map(str::to_owned).collect()
}

fn first_number(printed: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(printed)?;
    Ok(text.split_whitespace().next().ok_or("printed nothing")?.parse()?)
}

fn pdu_total(printed: &[u8]) -> Result<u64> {
    number_at(printed, "/tree/size")
}

fn visible_bytes(printed: &[u8]) -> Result<u64> {
    number_at(printed, "/filesystems/0/visible_bytes")
}

fn number_at(printed: &[u8], pointer: &str) -> Result<u64> {
    let json: serde_json::Value = serde_json::from_slice(printed)?;
    let number = json.pointer(pointer).and_then(serde_json::Value::as_u64);
    number.ok_or_else(|| format!("no number at {pointer} in the output").into())
}

fn report(contenders: &[Contender], samples: &Samples) {
    let is_peer = |row: &usize| !contenders[*row].name.starts_with("whyfull");
    let rows = || (0..contenders.len()).filter(is_peer);
    let wall = |row: &usize| median_wall(&samples[*row]);
    let mut columns = Vec::new();
    if let Some(du) = rows().find(|&row| contenders[row].name.starts_with("du ")) {
        columns.push(table::speeds("speed against du".to_owned(), samples, du));
    }
    if let Some(fastest) = rows().min_by(|a, b| wall(a).total_cmp(&wall(b))) {
        let title = "against the fastest peer".to_owned();
        columns.push(table::speeds(title, samples, fastest));
    }
    table::print(contenders, samples, &columns);
}

/// Every sum of every round has to be the same.
fn agree(contenders: &[Contender], samples: &Samples) -> Result<()> {
    let expected = samples[0][0].answer;
    let different = contenders.iter().zip(samples).filter_map(|(contender, samples)| {
        let wrong = samples.iter().find(|sample| sample.answer != expected)?;
        Some(format!("{} says {}", contender.name, wrong.answer))
    });
    let different: Vec<String> = different.collect();
    if !different.is_empty() {
        let reference = &contenders[0].name;
        let different = different.join(", ");
        return Err(format!("sums differ: {reference} says {expected}, {different}").into());
    }
    println!("All sums agree: {expected} bytes.\n");
    Ok(())
}
