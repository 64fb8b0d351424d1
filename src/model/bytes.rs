// SPDX-License-Identifier: MIT OR Apache-2.0

//! Amounts of space: `Bytes` for what is there, `Gap` for a signed difference, and
//! how both are written for people.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use humansize::{BINARY, DECIMAL, FixedAt, FormatSizeOptions, format_size};
use serde::Serialize;

/// An amount of bytes. Sums saturate at `MOST`: a corrupt filesystem, or a server, may claim any size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// What no filesystem holds. All rows of a ledger together are a `Gap` still, if none is more than this: then
    /// they always add up.
    pub const MOST: Self = Self(1_000_000_000_000_000_000);

    /// So much as a filesystem says, but no more than `MOST`.
    pub fn claimed(bytes: u64) -> Self {
        Self(bytes).min(Self::MOST)
    }

    /// The difference, or zero where `other` is more.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::claimed(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// `used - visible` is negative where files add up to more than the filesystem holds.
impl Sub for Bytes {
    type Output = Gap;

    fn sub(self, other: Self) -> Gap {
        Gap::from(self) - Gap::from(other)
    }
}

/// A signed amount of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Gap(pub i64);

impl Gap {
    /// The length of a file, which may have holes: that may be more than any filesystem holds.
    fn length(length: Bytes) -> Self {
        Self(i64::try_from(length.0).unwrap_or(i64::MAX))
    }

    /// Its size without its sign.
    pub fn magnitude(self) -> Bytes {
        Bytes(self.0.unsigned_abs())
    }
}

impl From<Bytes> for Gap {
    fn from(bytes: Bytes) -> Self {
        Self(i64::try_from(bytes.min(Bytes::MOST).0).unwrap_or(i64::MAX))
    }
}

impl Add for Gap {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Gap {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Gap {
    fn sum<I: Iterator<Item = Self>>(gaps: I) -> Self {
        gaps.fold(Self(0), Add::add)
    }
}

/// How amounts are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// Powers of 1024: KiB, MiB, ...
    #[default]
    Binary,
    /// Powers of 1000: kB, MB, ...
    Decimal,
    /// Whole bytes.
    Plain,
}

/// One unit, in which several amounts are written so that they can be compared and added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    units: Units,
    /// How many times the base is raised: 0 bytes, 1 KiB, 2 MiB, ...
    power: u32,
}

/// The powers that humansize can be fixed at, from bytes up.
const FIXED: [FixedAt; 7] =
    [FixedAt::Base, FixedAt::Kilo, FixedAt::Mega, FixedAt::Giga, FixedAt::Tera, FixedAt::Peta, FixedAt::Exa];

impl Units {
    fn base(self) -> u64 {
        match self {
            Self::Binary => 1024,
            Self::Decimal => 1000,
            Self::Plain => 1,
        }
    }

    /// The largest unit of which `amount` holds at least one.
    pub fn scale_of(self, amount: Bytes) -> Scale {
        if self == Self::Plain {
            return Scale { units: self, power: 0 };
        }
        let scale = Scale { units: self, power: amount.0.checked_ilog(self.base()).unwrap_or(0) };
        // 1023.96 KiB would be written as 1024.0 KiB.
        let next = Scale { power: scale.power + 1, ..scale };
        if scale.power > 0 && next.steps(Gap::length(amount)) >= 10 { next } else { scale }
    }

    /// `amount` in the unit that suits it: `35.2 GiB`.
    pub fn format(self, amount: Bytes) -> String {
        self.scale_of(amount).format(amount)
    }
}

impl Scale {
    /// The amount that one step of the last printed digit stands for, as a fraction: a tenth
    /// of the unit, or one byte.
    fn step(self) -> (u128, u128) {
        let unit = u128::from(self.units.base()).pow(self.power);
        if self.power == 0 { (1, 1) } else { (unit, 10) }
    }

    /// How many steps of the last printed digit `amount` is, rounded half away from zero.
    pub fn steps(self, amount: Gap) -> i64 {
        let (unit, per_unit) = self.step();
        let steps = (u128::from(amount.0.unsigned_abs()) * per_unit * 2 + unit) / (unit * 2);
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        if amount.0 < 0 { -steps } else { steps }
    }

    /// How many whole steps `amount` is, rounded down, and what remains of it, comparable with
    /// other remainders at this scale.
    pub fn floor(self, amount: Gap) -> (i64, u128) {
        let (unit, per_unit) = self.step();
        let (unit, scaled) = (unit.cast_signed(), i128::from(amount.0) * per_unit.cast_signed());
        let steps = i64::try_from(scaled.div_euclid(unit)).unwrap_or(i64::MAX);
        (steps, scaled.rem_euclid(unit).unsigned_abs())
    }

    /// The number alone, for that many steps: `35.2`.
    pub fn number(self, steps: i64) -> String {
        let text = self.text_of(steps);
        text.split_once(' ').map_or(text.clone(), |(number, _)| number.to_owned())
    }

    /// Number and unit, for that many steps: `35.2 GiB`.
    pub fn text_of(self, steps: i64) -> String {
        if self.power == 0 {
            // humansize computes in floating point, which has no room for every number of bytes.
            return format!("{steps} B");
        }
        let (unit, per_unit) = self.step();
        // Rounded up, so that humansize, which rounds again, comes to the same digit.
        let amount = (u128::from(steps.unsigned_abs()) * unit).div_ceil(per_unit);
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        let sign = if steps < 0 { "-" } else { "" };
        format!("{sign}{}", format_size(amount, self.options()))
    }

    /// `amount` in this unit: `35.2 GiB`.
    pub fn format(self, amount: Bytes) -> String {
        self.text_of(self.steps(Gap::length(amount)))
    }

    fn options(self) -> FormatSizeOptions {
        let base = if self.units == Units::Decimal { DECIMAL } else { BINARY };
        base.decimal_places(1).decimal_zeroes(1).fixed_at(Some(FIXED[self.power as usize]))
    }
}

/// `1204311` as `1,204,311`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_written_in_the_unit_that_suits_them() {
        assert_eq!(Units::Binary.format(Bytes(0)), "0 B");
        assert_eq!(Units::Binary.format(Bytes(1023)), "1023 B");
        assert_eq!(Units::Binary.format(Bytes(1024)), "1.0 KiB");
        assert_eq!(Units::Binary.format(Bytes(1_048_570)), "1.0 MiB");
        assert_eq!(Units::Binary.format(Bytes(37_795_712_205)), "35.2 GiB");
        assert_eq!(Units::Decimal.format(Bytes(37_795_712_205)), "37.8 GB");
        assert_eq!(Units::Decimal.format(Bytes(1500)), "1.5 kB");
        assert_eq!(Units::Plain.format(Bytes(1_073_741_824)), "1073741824 B");
        assert_eq!(Units::Binary.format(Bytes(u64::MAX >> 1)), "8.0 EiB");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_204_311), "1,204,311");
    }

    #[test]
    fn absurd_amounts_stay_the_same_wherever_they_go() {
        let absurd = Bytes(u64::MAX);
        assert_eq!(absurd + absurd, Bytes::MOST);
        assert_eq!([absurd; 3].into_iter().sum::<Bytes>(), Bytes::MOST);
        assert_eq!((Gap::from(absurd).magnitude(), Bytes::claimed(u64::MAX)), (Bytes::MOST, Bytes::MOST));
        assert_eq!(absurd - Bytes::ZERO, Gap::from(Bytes::MOST));
        assert_eq!(Bytes::claimed(7), Bytes(7));
    }

    #[test]
    fn any_amount_is_written_in_any_unit() {
        for units in [Units::Binary, Units::Decimal, Units::Plain] {
            for amount in [0, 1, u64::MAX >> 1, u64::MAX] {
                let scale = units.scale_of(Bytes(amount));
                let gaps = [i64::MIN, i64::MAX, 0].map(Gap);
                assert!(gaps.into_iter().all(|gap| !scale.text_of(scale.steps(gap)).is_empty()));
                assert!(gaps.into_iter().all(|gap| scale.floor(gap).1 < u128::MAX));
                assert!(!units.format(Bytes(amount)).is_empty());
            }
        }
    }

    proptest! {
        #[test]
        fn printed_steps_read_back(amount in 0..i64::MAX / 4) {
            for units in [Units::Binary, Units::Decimal, Units::Plain] {
                let scale = units.scale_of(Bytes(amount.unsigned_abs()));
                let steps = scale.steps(Gap(amount));
                let read: i64 = scale.number(steps).replace('.', "").parse().unwrap();
                prop_assert_eq!(read, steps);
            }
        }

        #[test]
        fn a_gap_undoes_itself(a in 0..u64::MAX / 4, b in 0..u64::MAX / 4) {
            prop_assert_eq!(Bytes(a) - Bytes(b), Gap(0) - (Bytes(b) - Bytes(a)));
        }
    }
}
