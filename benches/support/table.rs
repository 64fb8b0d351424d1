// SPDX-License-Identifier: MIT OR Apache-2.0

//! Samples as one Markdown table.

use std::time::Duration;

use super::measure::{Contender, Sample, Samples};

/// A column beyond those that every table has.
pub(crate) struct Column {
    pub(crate) title: String,
    pub(crate) cells: Vec<String>,
}

/// Prints a row for each contender.
pub(crate) fn print(contenders: &[Contender], samples: &Samples, extra: &[Column]) {
    let titles: Vec<&str> = extra.iter().map(|column| column.title.as_str()).collect();
    println!("{}", line("tool | wall s (median) | min | CPU s | peak RSS MB", &titles));
    println!("{}", line("--- | --: | --: | --: | --:", &vec!["--:"; extra.len()]));
    for (row, (contender, samples)) in contenders.iter().zip(samples).enumerate() {
        let wall = median_wall(samples);
        let min = samples.iter().map(|s| s.wall).min().unwrap_or_default().as_secs_f64();
        let cpu = median(samples.iter().map(|s| s.cpu.as_secs_f64()));
        let rss = median(samples.iter().map(|s| megabytes(s.peak_rss)));
        let measured = format!("{} | {wall:.3} | {min:.3} | {cpu:.3} | {rss:.1}", contender.name);
        let cells: Vec<&str> = extra.iter().map(|column| column.cells[row].as_str()).collect();
        println!("{}", line(&measured, &cells));
    }
    println!();
}

fn line(measured: &str, cells: &[&str]) -> String {
    format!("| {} |", [&[measured], cells].concat().join(" | "))
}

/// How many times as fast as the contender `reference` each one is. Runs of
/// the same round are compared, for they met the same state of the machine.
pub(crate) fn speeds(title: String, samples: &Samples, reference: usize) -> Column {
    let seconds = |wall: Duration| wall.as_secs_f64();
    let speed = |own: &Vec<Sample>| {
        let pairs = own.iter().zip(&samples[reference]);
        median(pairs.map(|(own, reference)| seconds(reference.wall) / seconds(own.wall)))
    };
    let cells = samples.iter().map(|own| format!("{:.2}", speed(own))).collect();
    Column { title, cells }
}

pub(crate) fn median_wall(samples: &[Sample]) -> f64 {
    median(samples.iter().map(|s| s.wall.as_secs_f64()))
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(numbers[middle - 1], numbers[middle]),
        _ => numbers[middle],
    }
}

// Peak memory is far below 2^52 bytes.
#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
