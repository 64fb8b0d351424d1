// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whatever a filesystem says of itself: every part of the report has the same figures, the rows add up, and the
//! screen can be drawn.

use std::path::Path;

use proptest::prelude::*;

use super::tests::{filesystem, report, style};
use super::*;
use crate::model::capacity::{self, Figures};
use crate::model::findings::{self, Evidence};
use crate::model::ledger::Views;
use crate::model::limits::Limits;
use crate::model::traits::{Storage, Traits};
use crate::model::usage::Tally;
use crate::report::json;

/// Small, absurd, and the ends of what a counter can be.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..1u64 << 40, any::<u64>(), Just(u64::MAX), Just(u64::MAX / 2), Just(1u64 << 63), Just(0)]
}

fn tally() -> impl Strategy<Value = Tally> {
    // As a walk adds it up.
    proptest::collection::vec(counter(), 0..4).prop_map(|allocated| {
        let mut tally = Tally::default();
        for allocated in allocated {
            tally.count(allocated);
        }
        tally
    })
}

fn views() -> impl Strategy<Value = Views> {
    let tallies = proptest::array::uniform5(proptest::option::of(tally()));
    let amounts = proptest::array::uniform3(proptest::option::of(counter().prop_map(Bytes::claimed)));
    (tally(), tally(), tally(), tallies, amounts, any::<bool>()).prop_map(
        |(visible, unlinked, kernel, tallies, amounts, skipped)| {
            let [hidden, outside, unattributed, unreachable, _] = tallies;
            let [shared, metadata, reservation] = amounts;
            let found =
                Views { visible, hidden, outside, unlinked, kernel, unattributed, ..Views::default() };
            Views { shared, unreachable, metadata, reservation, skipped, ..found }
        },
    )
}

proptest! {
    #[test]
    fn figures_are_the_same_everywhere(
        unit in counter(),
        blocks in proptest::array::uniform3(counter()),
        inodes in proptest::array::uniform2(counter()),
        views in views(),
        unchecked_counters in any::<bool>(),
        storage in proptest::sample::select(vec![Storage::Device, Storage::Devices, Storage::Memory]),
        reserved_for in proptest::sample::select(vec![ReservedFor::Root, ReservedFor::Filesystem]),
    ) {
        let sample = Figures::of(unit, blocks, inodes);
        let views = Views { used: sample.used, ..views };
        let mut filesystem = filesystem(&views, &[]);
        let traits = Traits { storage, reserved_for, unchecked_counters, ..Traits::default() };
        filesystem.traits = traits;
        let capacity = capacity::Capacity { figures: sample, ..capacity::Capacity::default() };
        filesystem.capacity = Capacity::from(&capacity);
        let limits = Limits { memory: Some(sample.size), ..Limits::default() };
        let found = findings::find(&Evidence {
            mountpoint: Path::new("/"),
            source: Path::new("/dev/sda"),
            traits,
            capacity: &capacity,
            limits: &limits,
            longest_directory: None,
        });
        filesystem.findings = found.into_iter().map(Finding::from).collect();
        let report = report(vec![filesystem]);
        for units in [Units::Binary, Units::Decimal, Units::Plain] {
            for (width, unicode) in [(40, false), (100, true)] {
                let style = Style { width, unicode, units, directories: true, detail: Detail::Verbose, ..style() };
                prop_assert!(!render(&report, &style).is_empty());
            }
        }
        let value: serde_json::Value = serde_json::from_slice(&json::render(&report).unwrap()).unwrap();
        let told = &value["filesystems"][0];
        let number = |value: &serde_json::Value| i128::from(value.as_i64().unwrap());
        let rows = told["ledger"].as_array().unwrap();
        let sum: i128 = rows.iter().map(|row| number(&row["bytes"])).sum();
        prop_assert_eq!(sum, number(&told["capacity"]["used_bytes"]));
        prop_assert_eq!(number(&told["visible_bytes"]), number(&rows[0]["bytes"]));
        prop_assert_eq!(number(&told["gap_bytes"]), sum - number(&rows[0]["bytes"]));
        for figure in ["size_bytes", "used_bytes", "free_bytes", "available_bytes", "reserved_bytes"] {
            prop_assert!(number(&told["capacity"][figure]) <= i128::from(Bytes::MOST.0));
        }
        for row in rows.iter().filter(|row| row["cause"] != "unexplained") {
            prop_assert!(number(&row["bytes"]).abs() <= i128::from(Bytes::MOST.0));
        }
        let is_told = told["findings"].as_array().unwrap().iter().any(|found| found["code"] == "counters_wrong");
        let most = sample.size.max(sample.free).max(sample.available);
        let is_absurd = sample.size > Bytes::ZERO && most > sample.size || most == Bytes::MOST;
        prop_assert!(is_told == is_absurd || unchecked_counters && is_told >= (sample.free > sample.size));
    }
}
