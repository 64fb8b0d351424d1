// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copying a deleted file out, against cp: `cargo bench --bench recover -- --help`.

mod support {
    pub(crate) mod filesystem;
    pub(crate) mod interrupt;
    pub(crate) mod measure;
    pub(crate) mod programs;
    pub(crate) mod start;
    pub(crate) mod table;
}

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use support::filesystem::Filesystem;
use support::measure::{self, Contender, Sample};
use support::start::Start;
use support::table::{self, Column};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
/// What is written at once, and what a stretch of data in a sparse file is long.
const STRETCH: u64 = 64 << 10;
/// What ext4 may need to record the extents of a file.
const RECORDS: u64 = MIB;

/// Compares how fast whyfull and cp copy a file that has no name any more.
///
/// The file is on an ext4 of its own and is copied to the same one and to
/// another. Every copy has to be equal to it, holes included.
#[derive(Parser)]
#[command(name = "recover", bin_name = "cargo bench --bench recover --")]
struct Args {
    /// Data in the file, in MiB
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    size: u64,
    /// Rounds that count, after one that does not
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    #[command(flatten)]
    start: Start,
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.start.run("recover", || compare(&args))
}

fn compare(args: &Args) -> Result<()> {
    let whyfull = args.start.prepare()?;
    let size = args.size * MIB;
    // Room for the original, a copy, and what ext4 keeps for itself.
    let here = Filesystem::new(None, size * 3 + 256 * MIB, 1024)?;
    let there = Filesystem::new(None, size * 2 + 256 * MIB, 1024)?;
    for (shape, every) in [("without holes", STRETCH), ("nine tenths of which are holes", STRETCH * 10)] {
        let source = Rc::new(deleted_file(here.root(), size, every)?);
        for (place, target) in [("the same filesystem", &here), ("another filesystem", &there)] {
            println!("### {} MiB of data in a file {shape}, to {place}, {} rounds\n", args.size, args.rounds);
            let contenders = line_up(&whyfull, &source, target.root())?;
            let samples = measure::race(&contenders, args.rounds.into(), false)?;
            let length = |samples: &Vec<Sample>| (samples[0].answer / MIB).to_string();
            let lengths =
                Column { title: "length MiB".to_owned(), cells: samples.iter().map(length).collect() };
            let speeds = table::speeds("speed against cp".to_owned(), &samples, 0);
            table::print(&contenders, &samples, &[lengths, speeds]);
        }
    }
    Ok(())
}

/// A file that only this process holds. Its data is nowhere zero, or cp would make holes of it.
fn deleted_file(directory: &Path, size: u64, every: u64) -> Result<File> {
    let path = directory.join("original");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let data: Vec<u8> = (1..=u8::MAX).cycle().take(usize::try_from(STRETCH)?).collect();
    for stretch in 0..size / STRETCH {
        file.write_all_at(&data, stretch * every)?;
    }
    file.sync_all()?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn line_up(whyfull: &(String, String), source: &Rc<File>, directory: &Path) -> Result<Vec<Contender>> {
    let directory = directory.to_str().ok_or("the temporary directory is not UTF-8")?;
    let (pid, fd) = (std::process::id(), source.as_raw_fd());
    let cp = measure::find_peer("cp", "apt install coreutils").ok_or("there is nothing to compare with")?;
    let original = format!("/proc/{pid}/fd/{fd}");
    let copy = |name: &str| format!("{directory}/{name}");
    let (name, program) = whyfull;
    let contenders = [
        (cp, vec!["cp".into(), "--sparse=always".into(), "--reflink=auto".into(), original, copy("cp")]),
        (
            format!("{name} recover"),
            vec![program.clone(), "recover".into(), format!("{pid}:{fd}"), copy("whyfull")],
        ),
    ];
    let contender = |(name, command): (String, Vec<String>)| {
        let copy = command.last().map(PathBuf::from).unwrap_or_default();
        let source = Rc::clone(source);
        Contender { name, command, answer: Box::new(move |_| check(&source, &copy)), also_fine: &[] }
    };
    Ok(contenders.map(contender).into())
}

/// Compares the copy with the original, then makes room for the next one.
fn check(source: &File, copy: &Path) -> Result<u64> {
    let mut file = File::open(copy)?;
    let (expected, found) = (source.metadata()?, file.metadata()?);
    // How many blocks the filesystem needs to record where the data lies differs from file to file.
    let most = expected.blocks() + RECORDS / 512;
    if expected.len() != found.len() || found.blocks() > most {
        return Err(format!("{}: not as long as the original, or not with its holes", copy.display()).into());
    }
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < expected.len() {
        let length = file.read(&mut theirs)?;
        source.read_exact_at(&mut ours[..length], at)?;
        if length == 0 || ours[..length] != theirs[..length] {
            return Err(format!("{}: differs near byte {at}", copy.display()).into());
        }
        at += u64::try_from(length)?;
    }
    fs::remove_file(copy)?;
    // Written out, so that no contender waits for another's copy.
    nix::unistd::sync();
    Ok(found.len())
}
