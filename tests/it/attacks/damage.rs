// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damage that the kernel refuses is never counted as if whole: with its path or its number, exit status 1, and
//! the command that says more, in both routes alike. `du` shows what the kernel answers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use crate::support::holder::Holder;
use crate::support::image::Image;
use crate::support::report::{list, number, only};
use crate::support::routes::counting;
use crate::support::whyfull::whyfull;
use crate::support::{MIB, du_of_damaged, tree};

/// With checksums, and without; extents, pointers, data in inodes; whole clusters.
const SUMMED_UP: &[&str] = &["-b", "1024"];
const PLAIN: &[&str] = &["-b", "1024", "-O", "^metadata_csum"];
const UNINDEXED: &[&str] = &["-b", "1024", "-O", "^dir_index"];
const LAYOUTS: [&[&str]; 6] = [
    SUMMED_UP,
    PLAIN,
    &["-b", "1024", "-t", "ext3"],
    &["-b", "1024", "-t", "ext2"],
    &["-b", "4096", "-O", "inline_data,ea_inode"],
    &["-b", "1024", "-O", "bigalloc,^has_journal", "-C", "4096"],
];

/// What is skipped of a filesystem, without processes.
fn skipped(at: &Value) -> Vec<Value> {
    let of_processes = ["process", "socket_queue", "mapping", "unlisted_processes"].map(Value::from);
    list(&at["skipped"]).iter().filter(|skip| !of_processes.contains(&skip["kind"])).cloned().collect()
}

/// Of errors that the kernel meets one after the other it tells the first inode only, whichever thread that met.
fn without_chance(mut skips: Vec<Value>) -> Vec<Value> {
    for skip in skips.iter_mut().filter(|skip| skip["kind"] == "left_out") {
        skip["inode"] = Value::Null;
    }
    skips.dedup();
    skips
}

/// Both routes on something damaged; returns what is skipped, which has to be something.
fn told(path: &Path, what: &str) -> Vec<Value> {
    let (visible, complaint) = du_of_damaged(path);
    let reports = ["auto", "walk"].map(|method| {
        let run = counting(path, method).in_pid_namespace().run();
        assert_eq!(run.code(), Some(1), "{what}, {method}: {run:?}\n{complaint}");
        run.json()
    });
    let [auto, walk] = reports.each_ref().map(only);
    for at in [auto, walk] {
        assert_eq!(number(&at["visible_bytes"]), i128::from(visible), "{what}: {at:#}\n{complaint}");
        let unexplained = list(&at["ledger"]).iter().find(|row| row["cause"] == "unexplained").unwrap();
        let bound = number(&at["unexplained_bound_bytes"]);
        assert!(number(&unexplained["bytes"]) <= bound, "{what}: {at:#}");
    }
    let [from_auto, from_walk] = [auto, walk].map(skipped).map(without_chance);
    assert_eq!(from_auto, from_walk, "{what}");
    let tables = counting(path, "table").run();
    assert_eq!(tables.code(), Some(2), "{what}: {tables:?}");
    let skips = skipped(auto);
    let check = json!(["e2fsck", "-n", auto["source"]]);
    assert!(skips.iter().any(|skip| skip["check"] == check), "{what}: {skips:#?}");
    skips
}

/// Both routes on something whole.
fn not_told(path: &Path, what: &str) {
    let visible = du_of_damaged(path);
    for method in ["table", "walk"] {
        let run = counting(path, method).in_pid_namespace().run();
        assert_eq!(run.code(), Some(0), "{what}, {method}: {run:?}");
        let found = number(&only(&run.json())["visible_bytes"]);
        assert_eq!((i128::from(visible.0), ""), (found, visible.1.as_str()), "{what}, {method}");
    }
}

/// Each field as `debugfs` sets it, with a checksum that is right: what is left is what makes no sense.
#[test]
fn fields_that_an_inode_cannot_have() {
    require_root!();
    let fields = [
        // The tree of extents: its magic, its depth, its entries, their lengths, where they lead.
        ("block[0]", "0"),
        ("block[0]", "0x0005f30a"),
        ("block[1]", "0x00010004"),
        ("block[4]", "0"),
        ("block[5]", "1"),
        ("block[5]", "0x7fffffff"),
        ("mode", "0"),
        ("mode", "0170644"),
        ("flags", "0x10080000"),
        ("file_acl", "1"),
        ("size", "0x7fffffffffff0000"),
        ("extra_isize", "3"),
        ("extra_isize", "0x1000"),
    ];
    at_once(&[SUMMED_UP, PLAIN], |layout| {
        let image = Image::new(layout);
        not_told(image.mounted().path(), "whole");
        for (number, (field, value)) in fields.iter().enumerate() {
            image.add(&format!("d{number}"));
            image.debugfs(&format!("sif d{number}/file {field} {value}"));
        }
        files_are_told(&image, fields.len());
    });
}

/// Each of so many directories has one file, and that is refused.
fn files_are_told(image: &Image, count: usize) {
    let fs = image.mounted();
    let skips = told(fs.path(), "files");
    let mut paths: Vec<_> = skips.iter().map(|skip| skip["path"].as_str().unwrap().to_owned()).collect();
    let path = |number| fs.path().join(format!("d{number}/file")).to_str().unwrap().to_owned();
    let mut all: Vec<_> = (0..count).map(path).collect();
    paths.sort_unstable();
    all.sort_unstable();
    assert_eq!(paths, all, "{skips:#?}");
    assert!(skips.iter().all(|skip| skip["kind"] == "file" && skip["errno"] == "EUCLEAN"), "{skips:#?}");
}

/// Side by side: each run waits for a second before it calls something damaged.
fn at_once<T: Sync>(all: &[T], test: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        for each in all {
            scope.spawn(move || test(each));
        }
    });
}

/// Pointers of ext2 and ext3, which have no checksum.
#[test]
fn pointers_that_lead_where_no_file_may() {
    require_root!();
    let pointers = [("block[0]", "1"), ("block[5]", "0x7fffffff"), ("block[11]", "100")];
    at_once(&[LAYOUTS[2], LAYOUTS[3]], |layout| {
        let image = Image::new(layout);
        for (number, (field, value)) in pointers.iter().enumerate() {
            image.add(&format!("d{number}"));
            image.debugfs(&format!("sif d{number}/file {field} {value}"));
        }
        files_are_told(&image, pointers.len());
    });
}

#[test]
fn a_bit_of_an_inode_with_a_checksum() {
    require_root!();
    let image = Image::new(SUMMED_UP);
    // The time of access, its owner, the size, an attribute that is none.
    let places = [8, 2, 4, 250];
    let flip = || {
        for (number, at) in places.iter().enumerate() {
            image.flip(image.inode_of(&format!("d{number}/file"), 1024) + at, 3);
        }
    };
    (0..places.len()).for_each(|number| image.add(&format!("d{number}")));
    flip();
    let skips = told(image.mounted().path(), "bits");
    assert_eq!(skips.len(), places.len(), "{skips:#?}");
    assert!(skips.iter().all(|skip| skip["kind"] == "file" && skip["errno"] == "EBADMSG"), "{skips:#?}");
    flip();
    not_told(image.mounted().path(), "all flipped back");
}

#[test]
fn directories_that_cannot_be_read() {
    require_root!();
    // Its inode, a hole, lengths of entries, all of its block, names that lead nowhere and in a circle.
    let damages: [fn(&Image, &str, u64); 7] = [
        |image, name, _| image.debugfs(&format!("sif {name} block[0] 0")),
        |image, name, _| image.debugfs(&format!("sif {name} size 3072")),
        |image, _, block| image.put(block + 12 + 4, &[5, 0]),
        |image, _, block| image.put(block + 24 + 4, &[6, 0]),
        |image, _, block| image.put(block, &[0; 1024]),
        |image, name, _| image.debugfs(&format!("clri {name}/file")),
        |image, name, _| image.debugfs(&format!("ln / {name}/again")),
    ];
    at_once(&[SUMMED_UP, PLAIN, UNINDEXED], |layout| {
        let image = Image::new(layout);
        for (number, damage) in damages.iter().enumerate() {
            let name = format!("d{number}");
            image.add(&name);
            damage(&image, &name, image.block_of(&name) * 1024);
        }
        told(image.mounted().path(), &format!("{layout:?}"));
    });
}

/// The kernel only notes that it has left out what follows, and where the device cannot be written not even that.
#[test]
fn names_that_the_kernel_leaves_out() {
    require_root!();
    at_once(&[SUMMED_UP, PLAIN, UNINDEXED], |layout| {
        let image = Image::new(layout);
        image.put(image.block_of("d") * 1024 + 12 + 4, &[5, 0]);
        for options in ["", "ro"] {
            told(image.mounted_with(options).path(), &format!("{layout:?}, {options}"));
        }
    });
}

#[test]
fn a_block_of_a_large_directory() {
    require_root!();
    at_once(&[SUMMED_UP, PLAIN], |layout| {
        let image = Image::new(layout);
        image.filled(|root| (0..3).for_each(|n| tree::flat(&root.join(format!("many{n}")), 500)));
        not_told(image.mounted().path(), "whole");
        // The length of an entry in leaves; in the root of an index, where there is a checksum, anything.
        for (number, (block, at)) in [(1, 4), (7, 4), (0, 100)].into_iter().enumerate() {
            let blocks = image.asked(&format!("blocks many{number}"));
            let block: u64 = blocks.split_whitespace().nth(block).unwrap().parse().unwrap();
            if at == 4 || *layout == SUMMED_UP {
                image.flip(block * 1024 + at, 0);
            }
        }
        told(image.mounted().path(), &format!("{layout:?}"));
    });
}

fn sync(root: &Path) -> std::io::Result<()> {
    Ok(nix::unistd::syncfs(fs::File::open(root)?)?)
}

/// The map of a directory in a block of its own. That of a file is none of `du`'s business.
#[test]
fn a_block_of_extents() {
    require_root!();
    let image = Image::new(SUMMED_UP);
    image.filled(|root| {
        fs::create_dir(root.join("many")).unwrap();
        // What is free then are single blocks.
        let rest = statvfs(root).unwrap();
        let most = (rest.blocks_available() - 200) * rest.fragment_size();
        let most = i64::try_from(most).unwrap();
        let fill = fs::File::create_new(root.join("fill")).unwrap();
        posix_fallocate(&fill, 0, most).unwrap();
        let small = |number| root.join(format!("small {number}"));
        let count = (0..1_000_000)
            .find(|&number| fs::write(small(number), [1; 100]).and_then(|()| sync(root)).is_err());
        for number in (0..count.unwrap()).step_by(2) {
            fs::remove_file(small(number)).unwrap();
        }
        sync(root).unwrap();
        let name = |number| root.join(format!("many/a name of some length that takes up room {number}"));
        for number in 0..400 {
            fs::hard_link(small(1), name(number)).unwrap();
        }
    });
    let printed = image.asked("stat many");
    let Some((_, block)) = printed.split_once("(ETB0):") else { panic!("no block of extents: {printed}") };
    let block: u64 = block.split([',', '\n']).next().unwrap().trim().parse().unwrap();
    image.flip(block * 1024 + 20, 0);
    told(image.mounted().path(), "extents of a directory");
}

/// No name leads to it, and no holder.
#[test]
fn a_damaged_inode_without_a_name() {
    require_root!();
    let image = Image::new(SUMMED_UP);
    let inode = image.inode_of("d/file", 1024);
    image.debugfs("unlink d/file");
    image.flip(inode + 8, 3);
    let fs = image.mounted();
    let skips = told(fs.path(), "no name");
    assert_eq!((&skips[0]["kind"], &skips[0]["path"]), (&json!("inode"), &json!(fs.path())));
    assert!(skips[0]["inode"].as_u64().unwrap() > 11, "{skips:#?}");
    // In words, too.
    let text = whyfull().arg(fs.path()).in_pid_namespace().run();
    assert!(text.text().contains("1 damaged inode without a known name (EBADMSG)"), "{text:?}");
    assert!(text.text().contains("sudo e2fsck -n /dev/loop"), "{text:?}");
}

/// What is held is in the kernel's memory, whatever becomes of it on the disk; the list that leads there is not.
#[test]
fn damaged_orphans() {
    require_root!();
    let image = Image::new(SUMMED_UP);
    let fs = image.mounted();
    let holder = Holder::start("fd", &fs.path().join("held"));
    let device = only(&counting(fs.path(), "walk").run().json())["source"].as_str().unwrap().to_owned();
    let device = Path::new(&device);
    let deleted = || {
        let run = whyfull().arg("deleted").arg(fs.path()).arg("--json").run();
        (run.code(), serde_json::from_slice::<Value>(&run.stdout).unwrap())
    };
    assert_eq!(skipped(&deleted().1), Vec::<Value>::new());

    let place = Image::at(device).inode_of(&format!("<{}>", holder.inode()), 1024);
    Image::at(device).flip(place + 250, 3);
    let (code, report) = deleted();
    assert_eq!(code, Some(1), "{report:#}");
    let skip = &skipped(&report)[0];
    assert_eq!((&skip["kind"], &skip["inode"]), (&json!("inode"), &json!(holder.inode())), "{skip:#}");
    assert_eq!(skip["check"], json!(["e2fsck", "-n", device]));
    Image::at(device).flip(place + 250, 3);

    // The chain leads nowhere.
    Image::at(device).flip(LAST_ORPHAN, 6);
    let (code, report) = deleted();
    assert_eq!((code, &skipped(&report)[0]["kind"]), (Some(1), &json!("unlinked_list")), "{report:#}");
    let run = counting(fs.path(), "auto").run();
    let skips = skipped(only(&run.json()));
    assert_eq!((run.code(), &skips[0]["kind"]), (Some(1), &json!("unlinked_list")), "{run:?}");
    Image::at(device).flip(LAST_ORPHAN, 6);
    assert_eq!(skipped(&deleted().1), Vec::<Value>::new());
}

/// The upper byte of `s_last_orphan`.
const LAST_ORPHAN: u64 = 1024 + 0xe8 + 3;

#[test]
fn damage_at_random() {
    require_root!();
    let seeds: Vec<u64> = (0..).take(LAYOUTS.len()).collect();
    at_once(&seeds, |&seed| at_random(LAYOUTS[usize::try_from(seed).unwrap()], seed));
}

/// Bits of inodes and names, always the same ones.
fn at_random(layout: &[&str], seed: u64) {
    let block_size = if layout[1] == "1024" { 1024 } else { 4096 };
    let mut state = seed + 1;
    let mut random = |below: u64| {
        // Knuth's MMIX.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let image = Image::new(layout);
    image.filled(|root| tree::nasty(&root.join("nasty"), 2));
    let places = [
        image.inode_of("d/file", block_size),
        image.inode_of("d", block_size),
        image.inode_of("nasty", block_size),
    ];
    for round in 0..4 {
        let (place, at, bit) = (places[usize::try_from(random(3)).unwrap()], random(116), random(8));
        image.flip(place + at, u32::try_from(bit).unwrap());
        let fs = image.mounted();
        let what = format!("{layout:?}, round {round}: {place} + {at}, bit {bit}");
        let (visible, complaint) = du_of_damaged(fs.path());
        for method in ["auto", "walk"] {
            let run = counting(fs.path(), method).in_pid_namespace().run();
            let report = run.json();
            let at = only(&report);
            assert_eq!(number(&at["visible_bytes"]), i128::from(visible), "{what}: {run:?}\n{complaint}");
            assert!(complaint.is_empty() || run.code() == Some(1), "{what}: {run:?}\n{complaint}");
        }
        drop(fs);
        image.flip(place + at, u32::try_from(bit).unwrap());
    }
}

/// What XFS and btrfs answer is told, each with its own tool.
#[test]
fn other_filesystems_have_tools_of_their_own() {
    require_root!();
    let name: &[u8] = b"a name that is nowhere else";
    let kinds: [(&str, &[&str], &[&str]); 2] = [
        ("mkfs.xfs", &["-q"], &["xfs_repair", "-n"]),
        ("mkfs.btrfs", &["-q", "-m", "single"], &["btrfs", "check", "--readonly"]),
    ];
    for (mkfs, args, tool) in kinds {
        let image = Image::empty(mkfs, args, 300 * MIB);
        image.filled(|root| {
            // What is damaged shares no block of metadata with the first and the last inode.
            let more = |from, to| {
                for number in from..to {
                    fs::write(root.join(format!("good {number}")), "good").unwrap();
                }
            };
            more(0, 1000);
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d").join(OsStr::from_bytes(name)), vec![1; 50_000]).unwrap();
            more(1000, 2000);
        });
        image.flip_wherever(name);
        let fs = image.mounted();
        let run = counting(fs.path(), "auto").in_pid_namespace().run();
        let (visible, complaint) = du_of_damaged(fs.path());
        assert_eq!(run.code(), Some(1), "{mkfs}: {run:?}\n{complaint}");
        let report = run.json();
        let at = only(&report);
        assert_eq!(number(&at["visible_bytes"]), i128::from(visible), "{at:#}\n{complaint}");
        let device = at["source"].as_str().unwrap();
        let check: Vec<&str> = tool.iter().copied().chain([device]).collect();
        assert!(skipped(at).iter().any(|skip| skip["check"] == json!(check)), "{at:#}\n{complaint}");
    }
}
