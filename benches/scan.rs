// SPDX-License-Identifier: MIT OR Apache-2.0

//! The search for deleted files that are still open, against `lsof +L1` and
//! lsfd: `cargo bench --bench scan -- --help`.

mod support {
    pub(crate) mod filesystem;
    pub(crate) mod holders;
    pub(crate) mod interrupt;
    pub(crate) mod measure;
    pub(crate) mod programs;
    pub(crate) mod start;
    pub(crate) mod table;
}

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use nix::sys::stat::{major, minor};
use serde_json::Value;
use support::filesystem::Filesystem;
use support::holders::{Crowd, Deleted};
use support::measure::{self, Contender, Samples};
use support::start::Start;
use support::table::{self, Column};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Compares how fast whyfull, lsof and lsfd find deleted files that are open.
///
/// A crowd of processes holds descriptors of files on a small ext4 and of
/// pipes, sockets and devices; whyfull has to name every deleted file of that
/// ext4 with its exact bytes.
#[derive(Parser)]
#[command(name = "scan", bin_name = "cargo bench --bench scan --")]
struct Args {
    #[command(flatten)]
    crowd: Crowd,
    /// Rounds that count, after one that does not
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Be child number INDEX of the crowd
    #[arg(long, hide = true, requires = "dir", value_name = "INDEX")]
    hold: Option<u64>,
    /// Where the crowd's files are
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    start: Start,
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.start.run("scan", || match (args.hold, &args.dir) {
        (Some(index), Some(dir)) => args.crowd.hold(index, dir),
        _ => compare(&args),
    })
}

fn compare(args: &Args) -> Result<()> {
    let whyfull = args.start.prepare()?;
    let filesystem = Filesystem::new(None, 256 << 20, 16_384)?;
    let root = filesystem.root();
    eprintln!("  starting the crowd");
    let (_holders, deleted) = args.crowd.gather(root)?;
    let Crowd { descriptors, processes, tasks, .. } = args.crowd;
    let what = format!("{descriptors} descriptors in {processes} processes, {tasks} tasks");
    println!("### {what}, {} rounds\n", args.rounds);
    let contenders = line_up(root, whyfull, &Rc::new(deleted))?;
    let samples = measure::race(&contenders, args.rounds.into(), false)?;
    report(&contenders, &samples, args.crowd.deleted);
    Ok(())
}

fn line_up(root: &Path, whyfull: (String, String), deleted: &Rc<Deleted>) -> Result<Vec<Contender>> {
    let dev = std::fs::metadata(root)?.dev();
    let (major, minor) = (major(dev), minor(dev));
    let mut contenders = Vec::new();
    if let Some(name) = measure::find_peer("lsof", "apt install lsof") {
        // -n and -P: no time lost on the names of hosts and ports.
        contenders.push(Contender {
            name: format!("{name} -nP +L1"),
            command: words("lsof -nP +L1"),
            answer: found(deleted, 5, format!("{major},{minor}"), 8),
            // 1: it could not look at everything.
            also_fine: &[1],
        });
    }
    if let Some(name) = measure::find_peer("lsfd", "apt install util-linux") {
        contenders.push(Contender {
            name: format!("{name} -Q DELETED"),
            command: words("lsfd -Q DELETED --noheadings --raw -o MAJ:MIN,INODE"),
            answer: found(deleted, 0, format!("{major}:{minor}"), 1),
            also_fine: &[],
        });
    }
    let root = root.to_str().ok_or("the temporary directory is not UTF-8")?;
    let (name, program) = whyfull;
    let command = [program.as_str(), "--json", "--no-progress", root];
    let deleted = Rc::clone(deleted);
    contenders.push(Contender {
        name,
        command: command.map(str::to_owned).to_vec(),
        answer: Box::new(move |printed| named(printed, &deleted)),
        // 1: some process could not be looked into. None of the crowd is one.
        also_fine: &[1],
    });
    Ok(contenders)
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

/// How many of the deleted files a table of descriptors lists, given which of
/// its columns are device and inode.
fn found(deleted: &Rc<Deleted>, device_at: usize, device: String, inode_at: usize) -> measure::Answer {
    let deleted = Rc::clone(deleted);
    Box::new(move |printed| {
        let text = String::from_utf8_lossy(printed);
        let inode = |line: &str| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            let here = cells.get(device_at) == Some(&device.as_str());
            let inode = cells.get(inode_at)?.parse().ok()?;
            (here && deleted.contains_key(&inode)).then_some(inode)
        };
        let mut inodes: Vec<u64> = text.lines().filter_map(inode).collect();
        inodes.sort_unstable();
        inodes.dedup();
        Ok(u64::try_from(inodes.len())?)
    })
}

/// whyfull has to name exactly the deleted files, each with its bytes, and to
/// book their sum.
fn named(printed: &[u8], deleted: &Deleted) -> Result<u64> {
    let json: Value = serde_json::from_slice(printed)?;
    let filesystem = &json["filesystems"][0];
    let list = |name: &str| filesystem[name].as_array().cloned().unwrap_or_default();
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
    let holders = list("deleted");
    let holders = holders.iter().map(|h| (number(h, "inode"), number(h, "bytes")));
    let holders: Deleted = holders.collect();
    if let Some((inode, bytes)) = deleted.iter().find(|&(inode, bytes)| holders.get(inode) != Some(bytes)) {
        let said = holders.get(inode);
        return Err(format!("inode {inode} holds {bytes} bytes, reported: {said:?}").into());
    }
    let ledger = list("ledger");
    let row = ledger.iter().find(|row| row["cause"] == "unlinked_open");
    let booked = row.map(|row| number(row, "bytes"));
    let sum: u64 = deleted.values().sum();
    if holders.len() != deleted.len() || booked != Some(sum) {
        let (own, all) = (holders.len(), deleted.len());
        return Err(format!("{own} files of {all} reported, {booked:?} bytes of {sum} booked").into());
    }
    Ok(u64::try_from(holders.len())?)
}

fn report(contenders: &[Contender], samples: &Samples, deleted: u64) {
    let cells = samples.iter().map(|samples| format!("{} of {deleted}", samples[0].answer));
    let title = "deleted files found".to_owned();
    let mut columns = vec![Column { title, cells: cells.collect() }];
    if let Some(lsof) = contenders.iter().position(|c| c.name.starts_with("lsof ")) {
        columns.push(table::speeds("speed against lsof".to_owned(), samples, lsof));
    }
    table::print(contenders, samples, &columns);
}
