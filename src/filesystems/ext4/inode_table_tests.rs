// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whole filesystems as mkfs makes them, in memory, whole and damaged.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use proptest::prelude::*;

use super::block_map::{self, Budget, Run};
use super::error::Error;
use super::in_memory::{InMemory, count, look_everywhere};
use super::inode::Inode;
use super::inode_table::{Blocks, How, Tables, check_blocks};
use super::overhead::Overhead;
use super::tests::cases;
use super::volume::Volume;
use crate::filesystems::unlinked::Damaged;
use crate::model::monitor::Monitor;
use crate::model::usage::Census;

const BLOCK: usize = 1024;
/// They meet.
const THREADS: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(1);

/// An image with `a/b/c`, `a/file`, a directory of several blocks, and hard links.
fn image(features: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (from, image) = (dir.path().join("from"), dir.path().join("image"));
    fs::create_dir_all(from.join("a/b/c")).unwrap();
    fs::create_dir(from.join("many")).unwrap();
    for number in 0..60 {
        fs::write(from.join(format!("many/a rather long name {number}")), vec![1; number * 10]).unwrap();
    }
    fs::write(from.join("a/file"), vec![1; 20_000]).unwrap();
    fs::hard_link(from.join("a/file"), from.join("a/b/linked")).unwrap();
    fs::File::create_new(&image).unwrap().set_len(1 << 20).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let args = ["-q", "-F", "-b", "1024", "-N", "128", "-O", features, "-d"].map(OsStr::new);
    let out = Command::new("mkfs.ext4").env("PATH", path).args(args).arg(&from).arg(&image).output().unwrap();
    assert!(out.status.success(), "{features}: {}", String::from_utf8_lossy(&out.stderr));
    fs::read(image).unwrap()
}

/// Extents, pointers, and names in inodes, the last with checksums; and extents with them.
fn images() -> &'static [Vec<u8>; 4] {
    static IMAGES: OnceLock<[Vec<u8>; 4]> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let features =
            ["^metadata_csum", "^metadata_csum,^extent,^64bit", "inline_data,ea_inode", "metadata_csum"];
        features.map(|features| image(&format!("^has_journal,{features}")))
    })
}

fn read(image: &[u8], mount_points: &[&Path]) -> Result<(Census, Tables), Error> {
    monitored(image, mount_points, &Monitor::default())
}

fn monitored(image: &[u8], mount_points: &[&Path], monitor: &Monitor) -> Result<(Census, Tables), Error> {
    let how = How { threads: THREADS, monitor };
    count(&Volume::open(&InMemory::new(image))?, mount_points, how)
}

/// Where these bytes are.
fn find(image: &[u8], bytes: &[u8]) -> usize {
    image.windows(bytes.len()).position(|window| window == bytes).unwrap()
}

/// The number in the entry of that name: it lies eight bytes before.
fn entry(image: &[u8], name: &str) -> usize {
    find(image, name.as_bytes()) - 8
}

fn directory<'a>(census: &'a Census, path: &str) -> &'a crate::model::usage::Entry {
    census.directories.iter().find(|directory| directory.path == Path::new(path)).unwrap()
}

#[test]
fn all_is_counted_once() {
    for image in images() {
        let (census, tables) = read(image, &[]).unwrap();
        // The root, lost+found, a, b, c, many; the files.
        assert_eq!(census.visible.inodes, 6 + 61);
        assert_eq!(census.visible, tables.named);
        assert_eq!(census.moved.0, 0);
        assert_eq!(directory(&census, "a").tally.inodes, 4);
        assert_eq!(directory(&census, "many").tally.inodes, 61);
    }
}

#[test]
fn what_mount_points_cover_is_hidden() {
    for image in images() {
        let covers = ["a/b", "nowhere/at/all", "a/file", "many"].map(Path::new);
        let (census, tables) = read(image, &covers).unwrap();
        let hidden: Vec<_> = census.hidden.unwrap().iter().map(|part| part.tally.inodes).collect();
        // The file has both names beneath mounts: it counts with the first.
        assert_eq!(hidden, [3, 0, 0, 61]);
        assert_eq!(census.visible.inodes + 64, tables.named.inodes);
        assert_eq!(census.moved.0, 0);
    }
}

/// `s_overhead_clusters` is what mkfs has counted.
#[test]
fn mkfs_counts_the_same_overhead() {
    for image in images() {
        let counted = u32::from_le_bytes(image[1024 + 0x248..1024 + 0x24c].try_into().unwrap());
        let overhead = Overhead::read(&Volume::open(&InMemory::new(image)).unwrap()).unwrap();
        assert_eq!(overhead.all().iter().map(|term| term.bytes.0).sum::<u64>(), u64::from(counted) * 1024);
    }
}

#[test]
fn few_blocks_are_not_many_directories() {
    let check = |count: u64, distinct: u64| {
        let run = |number| Run { start: 10 + number % distinct * 2, length: 1 };
        let blocks = |number| Blocks { directory: 12, first: 0, run: run(number) };
        check_blocks(&mut (0..count).map(blocks).collect::<Vec<_>>())
    };
    assert_eq!(check(200_000, 200_000), Ok(()));
    assert_eq!(check(200_000, 100_000), Ok(()), "moved meanwhile");
    assert_eq!(check(1000, 2), Ok(()), "too few to matter");
    assert_eq!(check(200_000, 2), Err(Error::Corrupt));
}

/// The upper half counts only where block numbers have one.
#[test]
fn reserved_blocks() {
    let reserved = [0, 1].map(|which: usize| {
        let mut image = images()[which].clone();
        image[1024 + 0x8..1024 + 0xc].copy_from_slice(&7_u32.to_le_bytes());
        image[1024 + 0x154..1024 + 0x158].copy_from_slice(&1_u32.to_le_bytes());
        Volume::open(&InMemory::new(&image)).unwrap().reserved_blocks
    });
    assert_eq!(reserved, [1 << 32 | 7, 7]);
}

#[test]
fn a_circle_of_directories_is_left_out_and_bounds_the_rest() {
    let mut image = images()[0].clone();
    // `a` is in `b` now instead of in the root: nothing leads there.
    let (a, b, linked) = (find(&image, b"a\0\0\0") - 8, entry(&image, "b\0\0\0"), entry(&image, "linked"));
    let number: [u8; 4] = image[a..a + 4].try_into().unwrap();
    assert_ne!(number, image[b..b + 4]);
    image[linked..linked + 4].copy_from_slice(&number);
    image[a..a + 4].fill(0);
    let (census, tables) = read(&image, &[]).unwrap();
    assert_eq!(census.visible.inodes + 4, tables.named.inodes);
    assert!((tables.named.bytes - census.visible.bytes).0 > 20_000);
}

#[test]
fn names_that_lead_nowhere_are_damage() {
    // Free, reserved, beyond the last.
    for inode in [120_u32, 7, 129, u32::MAX] {
        let mut image = images()[0].clone();
        let file = entry(&image, "a rather long name 59");
        image[file..file + 4].copy_from_slice(&inode.to_le_bytes());
        assert_eq!(read(&image, &[]).map(drop), Err(Error::Corrupt), "{inode}");
    }
}

#[test]
fn a_directory_has_one_name() {
    let mut image = images()[0].clone();
    let (b, linked) = (entry(&image, "b\0\0\0"), entry(&image, "linked"));
    // `a/b/linked` is `a/b` itself, and the root.
    for number in [image[b..b + 4].to_vec(), vec![2, 0, 0, 0]] {
        image[linked..linked + 4].copy_from_slice(&number);
        assert_eq!(read(&image, &[]).map(drop), Err(Error::Corrupt), "{number:?}");
    }
}

#[test]
fn names_that_no_name_can_be_are_damage() {
    for byte in [0, b'/'] {
        let mut image = images()[0].clone();
        let name = find(&image, b"a rather long name 3");
        image[name + 3] = byte;
        assert_eq!(read(&image, &[]).map(drop), Err(Error::Corrupt), "{byte}");
    }
}

/// What has a checksum cannot change by a bit.
#[test]
fn every_bit_of_inodes_and_names_is_checked() {
    let image = &images()[3];
    let volume_image = InMemory::new(image);
    let volume = Volume::open(&volume_image).unwrap();
    // The inodes of the root, of `a`, and of what has been made last; the blocks of directories.
    let inode = |raw: Vec<u8>| (find(image, &raw), 256);
    let places = [
        inode(volume.inode(2).unwrap()),
        inode(volume.inode(12).unwrap()),
        inode(volume.inode(75).unwrap()),
        (entry(image, "linked") / BLOCK * BLOCK, BLOCK),
        (entry(image, "a rather long name 3") / BLOCK * BLOCK, BLOCK),
        (2 * BLOCK, 64),
    ];
    for (start, length) in places {
        for at in (start..start + length).step_by(7) {
            let mut image = image.clone();
            image[at] ^= 1 << (at % 8);
            assert_eq!(read(&image, &[]).map(drop), Err(Error::Corrupt), "{at}, from {start} on");
        }
    }
}

/// It is told by its number, and counts for nothing.
#[test]
fn a_damaged_inode_is_left_out_of_the_tables() {
    let (good, mut image) = (&images()[3], images()[3].clone());
    let number = u32::from_le_bytes(good[entry(good, "linked")..][..4].try_into().unwrap());
    let raw = Volume::open(&InMemory::new(good)).unwrap().inode(number).unwrap();
    let at = find(good, &raw);
    // More than there is.
    image[at + 0x1c..at + 0x20].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    let monitor = Monitor::default();
    let how = How { threads: THREADS, monitor: &monitor };
    let tables = |image: &[u8]| {
        super::inode_table::read(&Volume::open(&InMemory::new(image)).unwrap(), how).unwrap().0
    };
    let (good, damaged) = (tables(good), tables(&image));
    assert_eq!(good.damaged, []);
    assert_eq!(damaged.damaged, [Damaged { inode: number.into(), errno: Errno::EBADMSG }]);
    assert_eq!(damaged.named.inodes + 1, good.named.inodes);
    assert_eq!((good.named.bytes - damaged.named.bytes).0, 20 * 1024);
}

/// Whoever goes by names counts it twice.
#[test]
fn a_file_with_more_names_than_it_knows_of_is_damage() {
    let mut image = images()[0].clone();
    let (first, second) = (entry(&image, "a rather long name 58"), entry(&image, "a rather long name 57"));
    image.copy_within(first..first + 4, second);
    assert_eq!(read(&image, &[]).map(drop), Err(Error::Corrupt));
    // With two links it has two names.
    let number = u32::from_le_bytes(image[first..first + 4].try_into().unwrap());
    let raw = Volume::open(&InMemory::new(&image)).unwrap().inode(number).unwrap();
    let at = find(&image, &raw);
    image[at + 0x1a] = 2;
    let (census, _) = read(&image, &[]).unwrap();
    assert_eq!(directory(&census, "many").tally.inodes, 60);
}

#[test]
fn entries_that_lead_out_of_their_block_are_damage() {
    for length in [0_u16, 4, 7, 1021, 4096] {
        let mut image = images()[0].clone();
        let length_at = entry(&image, "a rather long name 3") + 4;
        image[length_at..length_at + 2].copy_from_slice(&length.to_le_bytes());
        assert_eq!(read(&image, &[]).map(drop), Err(Error::Corrupt), "{length}");
    }
}

#[test]
fn a_run_that_is_ended_early_is_no_error() {
    let monitor = Monitor::default();
    monitor.cancel_flag().store(true, Ordering::Relaxed);
    let (census, _) = monitored(&images()[0], &[], &monitor).unwrap();
    assert_eq!(census.visible.inodes, 0);
}

/// An inode of ext2 with these pointers and this size.
fn pointing(size: u32, pointers: [u32; 15]) -> Vec<u8> {
    let mut raw = vec![0; 128];
    raw[4..8].copy_from_slice(&size.to_le_bytes());
    for (place, pointer) in raw[0x28..0x64].chunks_exact_mut(4).zip(pointers) {
        place.copy_from_slice(&pointer.to_le_bytes());
    }
    raw
}

fn runs(image: &[u8], raw: &[u8]) -> Result<Vec<Run>, Error> {
    let image = InMemory::new(image);
    let volume = Volume::open(&image)?;
    let mut runs = Vec::new();
    block_map::runs(&volume, 12, Inode::new(raw).unwrap(), &Budget::of(&volume), |run| runs.push(run))?;
    Ok(runs)
}

#[test]
fn pointers_lead_through_three_levels() {
    let mut image = images()[1].clone();
    let mut point = |block: usize, pointers: &[(usize, u32)]| {
        image[block * BLOCK..(block + 1) * BLOCK].fill(0);
        for &(place, to) in pointers {
            let at = block * BLOCK + place * 4;
            image[at..at + 4].copy_from_slice(&to.to_le_bytes());
        }
    };
    point(900, &[(0, 710), (255, 720)]);
    point(901, &[(1, 902)]);
    point(902, &[(0, 730)]);
    point(903, &[(0, 904)]);
    point(904, &[(0, 905)]);
    point(905, &[(0, 740), (1, 750)]);
    let mut pointers = [0; 15];
    (pointers[0], pointers[12], pointers[13], pointers[14]) = (700, 900, 901, 903);
    let last = 12 + 256 + 256 * 256;
    let all = [700, 710, 720, 730, 740, 750].map(|start| Run { start, length: 1 });
    // The size ends it: the second block of the third level is behind it.
    assert_eq!(runs(&image, &pointing((last + 1) * 1024, pointers)).unwrap(), all[..5]);
    assert_eq!(runs(&image, &pointing((last + 2) * 1024, pointers)).unwrap(), all);
    assert_eq!(runs(&image, &pointing(1024, pointers)).unwrap(), all[..1]);
    pointers[0] = 5000;
    assert_eq!(runs(&image, &pointing(1024, pointers)), Err(Error::Corrupt));
}

/// Every level of a tree of extents leads to itself.
#[test]
fn extents_that_lead_in_a_circle_end() {
    let mut image = images()[0].clone();
    let entries: u16 = 84;
    for depth in 0..6_u16 {
        let node = (900 + usize::from(depth)) * BLOCK;
        image[node..node + BLOCK].fill(0);
        image[node..node + 8].copy_from_slice(&header(entries, depth));
        for entry in 1..=usize::from(entries) {
            let child = node + entry * 12 + 4;
            image[child..child + 4].copy_from_slice(&(899 + u32::from(depth)).to_le_bytes());
        }
    }
    let mut raw = pointing(u32::MAX, [0; 15]);
    raw[0x20..0x24].copy_from_slice(&0x8_0000_u32.to_le_bytes());
    raw[0x28..0x30].copy_from_slice(&header(1, 5));
    raw[0x38..0x3c].copy_from_slice(&904_u32.to_le_bytes());
    assert_eq!(runs(&image, &raw), Err(Error::Corrupt));
}

fn header(entries: u16, depth: u16) -> [u8; 8] {
    let mut header = [0; 8];
    for (place, number) in header.chunks_exact_mut(2).zip([0xf30a, entries, entries, depth]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    header
}

fn values() -> impl Strategy<Value = u32> {
    let near = prop_oneof![Just(0), Just(1), Just(2), Just(u32::MAX), Just(1 << 31), 0..1100_u32];
    prop_oneof![near, any::<u32>(), (0..32_u32).prop_map(|bit| 1 << bit)]
}

/// Superblock, descriptors, bitmaps and tables; the blocks of directories; anywhere.
fn places() -> impl Strategy<Value = usize> {
    prop_oneof![1024..2048_usize, 2048..4096_usize, 4096..(80 * BLOCK), 0..(1 << 20) - 4_usize]
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_damaged_image_ends_soon_and_without_panic(
        which in 0..4_usize, changes in prop::collection::vec((places(), values()), 1..12)
    ) {
        let mut image = images()[which].clone();
        for (place, value) in changes {
            image[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        look_everywhere(&image, THREADS);
    }
}
