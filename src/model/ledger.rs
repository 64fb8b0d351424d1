// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ledger: rows that add up to `used` to the byte, each saying how it was
//! obtained. Pure.

use crate::model::bytes::{Bytes, Gap};
use crate::model::usage::Tally;

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Names that can be reached from the filesystem's root: what `du -sx` prints.
    Visible,
    /// Names beneath mount points.
    HiddenByMount,
    /// Names outside of the part of the filesystem that is mounted.
    OutsideMount,
    /// Inodes without a name that processes hold.
    UnlinkedOpen,
    /// Inodes without a name that no process holds, but the kernel itself.
    UnlinkedKernel,
    /// Inodes without a name that the filesystem lists and for which no holder was found.
    UnlinkedUnattributed,
    /// What files report more than once, or without its being there. Negative.
    Shared,
    /// What belongs to no file any more.
    Unreachable,
    /// What the filesystem keeps for itself.
    Metadata,
    /// What is promised to data that has no place on the disk yet.
    Reservation,
    /// All the rest of `used`.
    Unexplained,
}

/// How a row's bytes were obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Read from the kernel or the filesystem.
    Measured,
    /// Computed from what was read, by a rule of the filesystem's.
    Derived,
    /// What the other rows leave.
    Remainder,
}

/// A part of an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub bytes: Bytes,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it counts.
    pub cause: Cause,
    /// Negative only for what is shared, and for the remainder: when files add up to more than is in use.
    pub bytes: Gap,
    /// How far to trust it.
    pub basis: Basis,
    /// How many inodes, where they were counted.
    pub inodes: Option<u64>,
}

/// What the views of one filesystem came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Views {
    /// What `df` calls used.
    pub used: Bytes,
    /// How far that moved during the run, and what may have been counted twice because it lost its
    /// name meanwhile.
    pub moved: Bytes,
    /// The view from above.
    pub visible: Tally,
    /// The same beneath mount points; `None` where that could not be looked at.
    pub hidden: Option<Tally>,
    /// The same outside of what the mount shows; `None` where it shows everything, or where that could
    /// not be looked at.
    pub outside: Option<Tally>,
    /// What processes were found to hold.
    pub unlinked: Tally,
    /// What only the kernel itself was found to hold.
    pub kernel: Tally,
    /// What the filesystem lists besides; `None` where it keeps no list, or none that may be read.
    pub unattributed: Option<Tally>,
    /// What all these report too much.
    pub shared: Option<Bytes>,
    /// Inodes that nobody can reach or holds.
    pub unreachable: Option<Tally>,
    /// What the filesystem keeps for itself.
    pub metadata: Option<Bytes>,
    /// What is promised to data in memory, and in none of the above.
    pub reservation: Option<Bytes>,
    /// Whether anything was skipped whose amount is not known.
    pub skipped: bool,
}

impl Views {
    /// What all files take up, with and without names.
    pub fn files(&self) -> Bytes {
        let nameless = [Some(self.unlinked), Some(self.kernel), self.unattributed];
        let others = [self.hidden, self.outside].into_iter().chain(nameless);
        others.flatten().fold(self.visible.bytes, |sum, tally| sum + tally.bytes)
    }
}

/// The rows, and what they leave open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// In a fixed order. Only what this run looked at; rows of zero bytes included.
    pub rows: Vec<Row>,
    /// `used - visible`.
    pub gap: Gap,
    /// How much of the unexplained may come from changes during the run and from what was skipped.
    pub bound: Bytes,
}

impl Ledger {
    /// Closes the ledger.
    pub fn close(views: &Views) -> Self {
        let measured = |cause, tally: Tally| Row {
            cause,
            bytes: Gap::from(tally.bytes),
            basis: Basis::Measured,
            inodes: Some(tally.inodes),
        };
        let mut rows = vec![measured(Cause::Visible, views.visible)];
        rows.extend(views.hidden.map(|hidden| measured(Cause::HiddenByMount, hidden)));
        rows.extend(views.outside.map(|outside| measured(Cause::OutsideMount, outside)));
        rows.push(measured(Cause::UnlinkedOpen, views.unlinked));
        rows.push(measured(Cause::UnlinkedKernel, views.kernel));
        rows.extend(views.unattributed.map(|tally| measured(Cause::UnlinkedUnattributed, tally)));
        let amount = |cause, bytes, basis| Row { cause, bytes, basis, inodes: None };
        let shared = views.shared.map(|bytes| Gap(0) - Gap::from(bytes));
        rows.extend(shared.map(|bytes| amount(Cause::Shared, bytes, Basis::Derived)));
        rows.extend(views.unreachable.map(|tally| measured(Cause::Unreachable, tally)));
        let kept = [(Cause::Metadata, views.metadata), (Cause::Reservation, views.reservation)];
        rows.extend(
            kept.into_iter()
                .filter_map(|(cause, bytes)| Some(amount(cause, Gap::from(bytes?), Basis::Measured))),
        );
        let explained: Gap = rows.iter().map(|row| row.bytes).sum();
        let rest = Gap::from(views.used) - explained;
        rows.push(Row { cause: Cause::Unexplained, bytes: rest, basis: Basis::Remainder, inodes: None });
        // What was skipped could only add: it may be all that is missing, and nothing of an excess.
        let skipped = if views.skipped && rest > Gap(0) { rest.magnitude() } else { Bytes::ZERO };
        Self { rows, gap: views.used - views.visible.bytes, bound: views.moved + skipped }
    }

    /// Whether nothing is unexplained, and nothing can be.
    pub fn closes(&self) -> bool {
        let rest = self.rows.iter().filter(|row| row.cause == Cause::Unexplained);
        self.bound == Bytes::ZERO && rest.map(|row| row.bytes).all(|bytes| bytes == Gap(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of one row; zero if there is none.
    fn bytes_of(ledger: &Ledger, cause: Cause) -> Gap {
        ledger.rows.iter().find(|row| row.cause == cause).map_or(Gap(0), |row| row.bytes)
    }

    fn tally(bytes: u64) -> Tally {
        Tally { bytes: Bytes(bytes), inodes: 1 }
    }

    /// Also what no filesystem can hold.
    fn views() -> impl Strategy<Value = Views> {
        views_of(|| prop_oneof![0..=Bytes::MOST.0 / 16, any::<u64>(), Just(u64::MAX)].boxed())
    }

    fn views_of(amount: impl Fn() -> BoxedStrategy<u64>) -> impl Strategy<Value = Views> {
        (
            amount(),
            amount(),
            amount(),
            (proptest::option::of(amount()), proptest::option::of(amount())),
            (amount(), amount(), proptest::option::of(amount())),
            proptest::array::uniform4(proptest::option::of(amount())),
            any::<bool>(),
        )
            .prop_map(
                |(
                    used,
                    moved,
                    visible,
                    (hidden, outside),
                    (unlinked, kernel, unattributed),
                    internal,
                    skipped,
                )| Views {
                    used: Bytes(used),
                    moved: Bytes(moved),
                    visible: tally(visible),
                    hidden: hidden.map(tally),
                    outside: outside.map(tally),
                    unlinked: tally(unlinked),
                    kernel: tally(kernel),
                    unattributed: unattributed.map(tally),
                    shared: internal[0].map(Bytes),
                    unreachable: internal[1].map(tally),
                    metadata: internal[2].map(Bytes),
                    reservation: internal[3].map(Bytes),
                    skipped,
                },
            )
    }

    proptest! {
        #[test]
        fn rows_add_up_to_used(views in views()) {
            let ledger = Ledger::close(&views);
            let sum: i128 = ledger.rows.iter().map(|row| i128::from(row.bytes.0)).sum();
            prop_assert_eq!(sum, i128::from(views.used.min(Bytes::MOST).0));
            let rest: i128 = ledger.rows[1..].iter().map(|row| i128::from(row.bytes.0)).sum();
            prop_assert_eq!(rest, i128::from(ledger.gap.0));
        }

        #[test]
        fn what_is_negative_is_shared_or_the_remainder(views in views()) {
            for row in Ledger::close(&views).rows {
                prop_assert_eq!(row.basis == Basis::Remainder, row.cause == Cause::Unexplained);
                let may_be = matches!(row.cause, Cause::Shared | Cause::Unexplained);
                prop_assert!(row.bytes >= Gap(0) || may_be);
            }
        }

        #[test]
        fn the_bound_is_what_moved_when_nothing_was_skipped(views in views()) {
            let ledger = Ledger::close(&Views { skipped: false, ..views });
            prop_assert_eq!(ledger.bound, views.moved.min(Bytes::MOST));
        }

        #[test]
        fn where_there_is_nothing_but_files_they_leave_nothing_open(
            views in views_of(|| (0..Bytes::MOST.0 / 8).boxed())
        ) {
            let only = Views { shared: None, unreachable: None, metadata: None, reservation: None, ..views };
            let ledger = Ledger::close(&Views { used: only.files(), ..only });
            prop_assert_eq!(bytes_of(&ledger, Cause::Unexplained), Gap(0));
        }
    }

    #[test]
    fn what_was_skipped_may_be_all_that_is_missing_but_no_excess() {
        let base = Views { used: Bytes(100), visible: tally(60), skipped: true, ..Views::default() };
        assert_eq!(Ledger::close(&base).bound, Bytes(40));
        assert_eq!(Ledger::close(&Views { visible: tally(130), ..base }).bound, Bytes(0));
    }

    #[test]
    fn a_ledger_closes_without_a_rest_and_without_a_bound() {
        let base = Views { used: Bytes(100), visible: tally(100), skipped: true, ..Views::default() };
        assert!(Ledger::close(&base).closes());
        assert!(!Ledger::close(&Views { moved: Bytes(1), ..base }).closes());
        assert!(!Ledger::close(&Views { visible: tally(99), ..base }).closes());
        assert!(!Ledger::close(&Views { visible: tally(101), ..base }).closes());
    }

    #[test]
    fn what_could_not_be_looked_at_has_no_row() {
        let causes = |hidden| {
            let ledger = Ledger::close(&Views { hidden, ..Views::default() });
            ledger.rows.iter().map(|row| row.cause).collect::<Vec<_>>()
        };
        let always = [Cause::Visible, Cause::UnlinkedOpen, Cause::UnlinkedKernel, Cause::Unexplained];
        assert_eq!(causes(None), always);
        assert_eq!(causes(Some(Tally::default()))[1], Cause::HiddenByMount);
    }
}
