// SPDX-License-Identifier: MIT OR Apache-2.0

//! The parser on images made here, whole and damaged.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::error::Error;
use super::in_memory::{InMemory, look_everywhere};
use super::inode::Inode;
use super::orphans::list;
use super::reserved_inodes::{InternalUse, Role};
use super::unlinked::{self, UnlinkedInode};
use super::volume::{ReadAt, Volume};
use crate::model::bytes::Bytes;

const BLOCK: usize = 1024;
const BLOCKS: u32 = 64;
const INODES: u32 = 128;
const BITMAP: u32 = 4;
const TABLE: u32 = 5;
const ORPHAN_FILE: u32 = 12;
/// An index block and two blocks of the orphan file.
const INDEX: u32 = 40;
const LEAVES: [u32; 2] = [41, 42];
/// In the chain, and in the orphan file.
const CHAIN: [u32; 4] = [20, 33, 21, 99];
const IN_FILE: [u32; 3] = [50, 51, 128];
/// In use and without a name.
const NAMELESS: [u32; 3] = [11, 60, 128];

type Change = fn(&mut [u8]);

/// An image that counts how often it is read and may be changed before a certain read.
struct Image {
    bytes: Mutex<Vec<u8>>,
    reads: AtomicUsize,
    change: Option<(usize, Change)>,
}

impl Image {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes), reads: AtomicUsize::new(0), change: None }
    }

    fn list(&self) -> Result<BTreeSet<u32>, Error> {
        let volume = Volume::open(self)?;
        let listed = list(&volume, Duration::ZERO)?;
        unlinked::of_orphans(&volume, listed.clone()).map(drop)?;
        Ok(listed)
    }
}

impl Image {
    fn nameless(&self) -> Result<Vec<UnlinkedInode>, Error> {
        unlinked::in_tables(&Volume::open(self)?).map(|found| found.all)
    }
}

impl ReadAt for Image {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((at, change)) = self.change
            && at == read
        {
            change(&mut self.bytes.lock().unwrap());
        }
        InMemory::new(&self.bytes.lock().unwrap()).read_at(offset, buffer)
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

fn put(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

fn at(block: u32) -> usize {
    block as usize * BLOCK
}

fn inode(number: u32) -> usize {
    at(TABLE) + (number as usize - 1) * 128
}

fn point(bytes: &mut [u8], inode_number: u32, next: u32) {
    put(bytes, inode(inode_number) + 0x14, next);
}

fn describe(bytes: &mut [u8], number: u32, mode: u16, links: u16, generation: u32) {
    let start = inode(number);
    bytes[start..start + 2].copy_from_slice(&mode.to_le_bytes());
    bytes[start + 0x1a..start + 0x1c].copy_from_slice(&links.to_le_bytes());
    put(bytes, start + 0x64, generation);
}

/// Marks an inode as used.
fn mark(bytes: &mut [u8], number: u32) {
    let index = number as usize - 1;
    bytes[at(BITMAP) + index / 8] |= 1 << (index % 8);
}

fn extent_node(bytes: &mut [u8], start: usize, depth: u16, entry: [u32; 3]) {
    put(bytes, start, 0x0001_f30a);
    put(bytes, start + 4, 4 | u32::from(depth) << 16);
    for (n, &word) in entry.iter().enumerate() {
        put(bytes, start + 12 + n * 4, word);
    }
}

fn image() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK * BLOCKS as usize];
    let fields = [
        (0x00, INODES),
        (0x04, BLOCKS),
        (0x14, 1),
        (0x20, 8192),
        (0x28, INODES),
        (0x38, 0xef53),
        (0x4c, 1),
        (0x54, 11),
        (0x58, 128),
        (0x5c, 0x1004),
        (0x60, 0x40),
        (0x64, 1),
        (0xe8, CHAIN[0]),
        (0x280, ORPHAN_FILE),
    ];
    for (offset, value) in fields {
        put(&mut bytes, 1024 + offset, value);
    }
    put(&mut bytes, 2 * BLOCK + 4, BITMAP);
    put(&mut bytes, 2 * BLOCK + 8, TABLE);
    for pair in CHAIN.windows(2) {
        point(&mut bytes, pair[0], pair[1]);
    }
    let file = inode(ORPHAN_FILE);
    put(&mut bytes, file + 4, 2048);
    put(&mut bytes, file + 0x20, 0x8_0000);
    extent_node(&mut bytes, file + 0x28, 1, [0, INDEX, 0]);
    extent_node(&mut bytes, at(INDEX), 0, [0, 2, LEAVES[0]]);
    for leaf in LEAVES {
        put(&mut bytes, at(leaf + 1) - 8, 0x0b10_ca04);
    }
    for number in NAMELESS {
        describe(&mut bytes, number, 0o100_644, 0, number * 1000);
        mark(&mut bytes, number);
    }
    // With a name; freed; its own; never written.
    describe(&mut bytes, 61, 0o100_644, 1, 0);
    describe(&mut bytes, 62, 0o100_644, 0, 0);
    describe(&mut bytes, 7, 0o100_600, 0, 0);
    for number in [7, 61, 63] {
        mark(&mut bytes, number);
    }
    put(&mut bytes, at(LEAVES[0]), IN_FILE[0]);
    put(&mut bytes, at(LEAVES[0]) + 400, IN_FILE[1]);
    put(&mut bytes, at(LEAVES[1]) + BLOCK - 12, IN_FILE[2]);
    bytes
}

/// Every field that is looked at begins at one of these.
fn places() -> impl Strategy<Value = usize> {
    prop_oneof![
        1024..1024 + 0x300_usize,
        2 * BLOCK..2 * BLOCK + 64,
        inode(ORPHAN_FILE)..inode(ORPHAN_FILE) + 128,
        prop::sample::select(CHAIN.to_vec()).prop_map(|number| inode(number) + 0x14),
        at(INDEX)..at(INDEX) + 40,
        0..BLOCKS as usize * BLOCK - 4,
    ]
}

fn values() -> impl Strategy<Value = u32> {
    let near = prop_oneof![Just(0), Just(1), Just(u32::MAX), Just(1 << 31), 0..200_u32];
    prop_oneof![near, any::<u32>(), (0..32_u32).prop_map(|bit| 1 << bit)]
}

#[test]
fn chain_and_file_are_read_to_their_ends() {
    let expected: BTreeSet<_> = CHAIN.into_iter().chain(IN_FILE).collect();
    assert_eq!(Image::new(image()).list(), Ok(expected));
}

#[test]
fn the_tables_tell_what_has_no_name() {
    let expected = NAMELESS.map(|inode| UnlinkedInode { inode, generation: inode * 1000 });
    assert_eq!(Image::new(image()).nameless(), Ok(expected.to_vec()));
}

/// Such a group's bitmap and table hold anything: only its descriptor is to be believed.
#[test]
fn what_a_group_says_is_unused_is_not_read() {
    let mut bytes = image();
    // Group checksums; 10 inodes at the end unused.
    put(&mut bytes, 1024 + 0x64, 0x11);
    put(&mut bytes, 2 * BLOCK + 0x1c, 10);
    assert_eq!(Image::new(bytes.clone()).nameless(), Err(Error::Corrupt), "no checksum");
    sum_up(&mut bytes);
    let found = Image::new(bytes.clone()).nameless().unwrap();
    assert_eq!(found.iter().map(|found| found.inode).collect::<Vec<_>>(), NAMELESS[..2]);
    // None initialised.
    put(&mut bytes, 2 * BLOCK + 0x10, 1 << 16);
    sum_up(&mut bytes);
    assert_eq!(Image::new(bytes.clone()).nameless(), Ok(vec![]));
    put(&mut bytes, 2 * BLOCK + 0x1c, INODES + 1);
    sum_up(&mut bytes);
    assert_eq!(Image::new(bytes).nameless(), Err(Error::Corrupt));
}

/// Gives the group's descriptor the only checksum that fits.
fn sum_up(bytes: &mut [u8]) {
    let sums = Volume::open(&InMemory::new(bytes)).unwrap().desc_sums;
    let mut descriptor = bytes[2 * BLOCK..2 * BLOCK + 32].to_vec();
    let mut fits = |sum: &u16| {
        descriptor[0x1e..].copy_from_slice(&sum.to_le_bytes());
        sums.is_intact(0, &descriptor)
    };
    let sum = (0..=u16::MAX).find(|sum| fits(sum)).unwrap();
    bytes[2 * BLOCK + 0x1e..2 * BLOCK + 0x20].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn tables_of_a_kind_that_is_not_known_are_not_read() {
    let mut bytes = image();
    put(&mut bytes, 1024 + 0x60, 0x40 | 1 << 30);
    assert_eq!(Image::new(bytes).nameless(), Err(Error::UnknownFeatures));
}

/// Each group has the same table: what would be read grows with their number.
#[test]
fn tables_that_lie_upon_each_other_are_not_read() {
    let mut bytes = image();
    let groups = BLOCKS - 1;
    put(&mut bytes, 1024, groups * INODES);
    put(&mut bytes, 1024 + 0x20, 1);
    let descriptors = 2 * BLOCK..;
    for descriptor in bytes[descriptors].chunks_exact_mut(32).take(groups as usize) {
        put(descriptor, 4, BITMAP);
        put(descriptor, 8, TABLE);
    }
    mark(&mut bytes, 128);
    assert_eq!(Image::new(bytes).nameless().map(|found| found.len()), Err(Error::Corrupt));
}

/// How much can be read is known from how large it is.
#[test]
fn a_volume_that_is_larger_than_its_device_is_not_read() {
    let mut bytes = image();
    put(&mut bytes, 1024 + 4, BLOCKS + 1);
    assert_eq!(Image::new(bytes).list(), Err(Error::Corrupt));
}

/// In the largest blocks one inode may claim more bytes than can be counted.
#[test]
fn amounts_that_nothing_can_have_do_not_overflow() {
    let mut bytes = vec![0; 2 << 16];
    bytes[..BLOCK * BLOCKS as usize].copy_from_slice(&image());
    put(&mut bytes, 1024 + 4, 2);
    put(&mut bytes, 1024 + 0x18, 6);
    // Files that count in blocks.
    put(&mut bytes, 1024 + 0x64, 0x8);
    let image = InMemory::new(&bytes);
    let volume = Volume::open(&image).unwrap();
    let mut raw = [0; 128];
    put(&mut raw, 0x1c, u32::MAX);
    put(&mut raw, 0x20, 0x4_0000);
    put(&mut raw, 0x74, u32::MAX);
    let inode = Inode::new(&raw).unwrap();
    let mut own = InternalUse::default();
    for role in [Role::Reserved("own"), Role::Reserved("own"), Role::EaInode, Role::Named] {
        own.add(&volume, role, inode);
    }
    let mut all = InternalUse::default();
    all.take(own);
    assert_eq!(all.metadata(&volume)[0].bytes, Bytes(u64::MAX));
}

#[test]
fn a_chain_that_bites_its_tail_or_leads_nowhere_is_an_error() {
    for next in [CHAIN[1], INODES + 1, u32::MAX] {
        let mut bytes = image();
        point(&mut bytes, CHAIN[3], next);
        assert_eq!(Image::new(bytes).list(), Err(Error::Corrupt));
    }
}

#[test]
fn what_is_no_ext4_is_an_error() {
    assert_eq!(Image::new(Vec::new()).list(), Err(Error::Corrupt));
    assert_eq!(Image::new(vec![0; 1 << 16]).list(), Err(Error::Corrupt));
    assert_eq!(Image::new(image()[..at(TABLE)].to_vec()).list(), Err(Error::Corrupt));
}

/// An inode leaves the chain before any of the reads: those that stay are found all the same.
#[test]
fn an_inode_that_leaves_the_chain_hides_no_other() {
    let leave: [Change; 3] = [
        |bytes| {
            put(bytes, 1024 + 0xe8, CHAIN[1]);
            point(bytes, CHAIN[0], 0);
        },
        |bytes| {
            point(bytes, CHAIN[0], CHAIN[2]);
            point(bytes, CHAIN[1], 0);
        },
        |bytes| {
            point(bytes, CHAIN[1], CHAIN[3]);
            // The time of deletion.
            point(bytes, CHAIN[2], 1_700_000_000);
        },
    ];
    for (gone, change) in leave.into_iter().enumerate() {
        for read in 1..60 {
            let image = Image { change: Some((read, change)), ..Image::new(image()) };
            let listed = image.list().unwrap();
            let stay = CHAIN.iter().enumerate().filter(|&(index, _)| index != gone);
            assert!(stay.into_iter().all(|(_, inode)| listed.contains(inode)), "{gone} left before {read}");
        }
    }
}

/// A new one has become the first, and its pointer to the others is written later.
#[test]
fn an_inode_that_enters_the_chain_hides_no_other() {
    let linked: Change = |bytes| point(bytes, 70, CHAIN[0]);
    // Later it has been the end of every pass.
    for read in 1..=19 {
        let mut bytes = image();
        put(&mut bytes, 1024 + 0xe8, 70);
        let image = Image { change: Some((read, linked)), ..Image::new(bytes) };
        let listed = image.list().unwrap();
        assert!(CHAIN.iter().all(|inode| listed.contains(inode)), "linked before {read}");
    }
}

/// So many cases, if `PROPTEST_CASES` does not say otherwise.
pub(super) fn cases(usual: u32) -> ProptestConfig {
    let told = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { told } else { ProptestConfig { cases: usual, ..told } }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_damaged_image_ends_without_panic(changes in prop::collection::vec((places(), values()), 1..8)) {
        let mut bytes = image();
        for (place, value) in changes {
            put(&mut bytes, place, value);
        }
        look_everywhere(&bytes, NonZero::<usize>::MIN);
    }

    #[test]
    fn any_superblock_ends_without_panic(raw in prop::collection::vec(any::<u8>(), 1024)) {
        let mut bytes = image();
        bytes[1024..2048].copy_from_slice(&raw);
        put(&mut bytes, 1024 + 0x18, u32::from(raw[0] % 8));
        bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&0xef53_u16.to_le_bytes());
        look_everywhere(&bytes, NonZero::<usize>::MIN);
    }
}
