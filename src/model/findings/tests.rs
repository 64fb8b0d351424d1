// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is found from which figures. Whether the figures are read right, tests/findings.rs asks.

use super::*;
use crate::model::capacity;
use crate::model::limits::{Amount, Chunks, Device, Owner, Refusal};
use crate::model::traits::{Command, Storage, Tools};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// 100 GiB with enough of everything.
fn roomy() -> Capacity {
    Capacity { figures: roomy_figures(), ..Capacity::default() }
}

fn roomy_figures() -> Figures {
    Figures {
        size: Bytes(100 * GIB),
        used: Bytes(40 * GIB),
        free: Bytes(60 * GIB),
        available: Bytes(55 * GIB),
        reserved: Bytes(5 * GIB),
        inodes: 1_000_000,
        inodes_free: 900_000,
    }
}

/// The same with other figures.
fn capacity_of(figures: Figures) -> Capacity {
    Capacity { figures, ..Capacity::default() }
}

/// 16 KiB nodes, and data of which a third is unused.
fn roomy_chunks() -> Chunks {
    Chunks {
        data: Bytes(90 * GIB),
        data_used: Bytes(60 * GIB),
        metadata: Bytes(2 * GIB),
        metadata_left: Bytes(GIB),
        operation: Bytes(8 * MIB),
    }
}

/// What ext4's driver says of it.
fn ext4() -> Traits {
    Traits {
        reserved_for: ReservedFor::Root,
        unchecked_counters: true,
        tools: Tools {
            repair: Some(Command("e2fsck -f {device}")),
            is_repaired_at_boot: true,
            grow: Some(Command("resize2fs {device}")),
            shrink_reserve: Some(Command("tune2fs -m 1 {device}")),
            large_directories: Some(Command("tune2fs -O large_dir {device}")),
            unlimited_directories: Some(Command("mount -o remount,max_dir_size_kb=0 {mountpoint}")),
            ..Tools::default()
        },
        ..Traits::default()
    }
}

fn in_memory() -> Traits {
    let add_inodes = Some(Command("mount -o remount,nr_inodes={number} {mountpoint}"));
    let tools = Tools { add_inodes, ..Tools::default() };
    Traits { storage: Storage::Memory, tools, ..Traits::default() }
}

fn found_on(traits: Traits, capacity: &Capacity, limits: &Limits) -> Vec<Finding> {
    let longest = ("/srv/many\nnames".into(), Bytes(10 * MIB));
    find(&Evidence {
        mountpoint: Path::new("/srv/it's"),
        source: Path::new("/dev/sdb1"),
        traits,
        capacity,
        limits,
        longest_directory: Some(&longest),
    })
}

/// The code and the severity of the only finding, or nothing.
fn only(findings: &[Finding]) -> Option<(FindingCode, Severity)> {
    assert!(findings.len() < 2, "{findings:#?}");
    findings.first().map(|finding| (finding.code, finding.severity))
}

#[test]
fn nothing_is_told_of_a_healthy_filesystem() {
    let healthy = Limits {
        errors: Some(0),
        directory: Some(Bytes(11 * MIB)),
        directory_index: Some(Bytes(GIB)),
        devices: vec![Device {
            number: 1,
            node: "/dev/sdb1".into(),
            size: Bytes(100 * GIB),
            used: Bytes(100 * GIB - MIB),
        }],
        image: Some(Image { path: "/image".into(), holes: Bytes(70 * GIB), available: Bytes(60 * GIB) }),
        memory: Some(Bytes(200 * GIB)),
        chunks: Some(roomy_chunks()),
        snapshots: Some(7),
        ..Limits::default()
    };
    for traits in [ext4(), in_memory(), Traits::default()] {
        assert_eq!(only(&found_on(traits, &roomy(), &healthy)), None);
        assert_eq!(only(&found_on(traits, &roomy(), &Limits::default())), None);
    }
    let full =
        capacity_of(Figures { available: Bytes(0), free: Bytes(0), reserved: Bytes(0), ..roomy_figures() });
    assert_eq!(only(&found_on(ext4(), &full, &Limits::default())), None, "of bytes, which the ledger tells");
}

#[test]
fn below_one_percent_of_the_inodes_is_told() {
    let with = |inodes, inodes_free| {
        only(&found_on(
            ext4(),
            &capacity_of(Figures { inodes, inodes_free, ..roomy_figures() }),
            &Limits::default(),
        ))
    };
    assert_eq!(with(0, 0), None);
    assert_eq!(with(1000, 10), None);
    assert_eq!(with(1000, 9), Some((FindingCode::InodesExhausted, Severity::Warning)));
    assert_eq!(with(1000, 0), Some((FindingCode::InodesExhausted, Severity::Critical)));
    let full =
        capacity_of(Figures { inodes: 1000, inodes_free: 1, available: Bytes(GIB - 1), ..roomy_figures() });
    assert_eq!(only(&found_on(Traits::default(), &full, &Limits::default())), None, "of space, too");
}

#[test]
fn the_reserve_is_told_when_only_that_is_left() {
    let with = |available: u64, traits| {
        let capacity = capacity_of(Figures { available: Bytes(available), ..roomy_figures() });
        found_on(traits, &capacity, &Limits::default())
    };
    let told = Some((FindingCode::OnlyReserveLeft, Severity::Critical));
    assert_eq!(only(&with(0, ext4())), told);
    assert_eq!(only(&with(MIB - 1, ext4())), told);
    assert_eq!(only(&with(MIB, ext4())), None, "a megabyte is left");
    assert_eq!(only(&with(0, Traits::default())), None, "is nobody's");
    assert_eq!(
        with(0, ext4())[0].message,
        "only the 5.0 GiB of 100.0 GiB that are reserved for root are left, so nobody else can write: \
         `tune2fs -m 1 /dev/sdb1` reserves 1 % only"
    );
    let theirs = Capacity {
        reserved_for: capacity::ReserveOwner { uid: None, gid: Some(7) },
        ..capacity_of(Figures { available: Bytes(0), reserved: Bytes(GIB), ..roomy_figures() })
    };
    let message = &found_on(ext4(), &theirs, &Limits::default())[0].message;
    assert!(
        message.contains("only the 1.0 GiB of 100.0 GiB that are reserved for root and GID 7 are left"),
        "{message}"
    );
    assert!(message.ends_with("delete files"), "{message}");
}

#[test]
fn errors_are_told_and_what_became_of_them() {
    let with = |refuses, errors| found_on(ext4(), &roomy(), &Limits { refuses, errors, ..Limits::default() });
    assert_eq!(only(&with(None, Some(1))), Some((FindingCode::ErrorsNoted, Severity::Warning)));
    for refusal in [Refusal::ReadOnly, Refusal::ShutDown] {
        let found = with(Some(refusal), Some(3));
        assert_eq!(only(&found), Some((FindingCode::ReadOnlyAfterErrors, Severity::Critical)));
        assert!(found[0].message.contains("(3 noted so far)"), "{found:?}");
        assert!(found[0].message.contains("`e2fsck -f /dev/sdb1`"), "{found:?}");
    }
}

#[test]
fn metadata_is_full_when_it_cannot_grow_though_data_could() {
    let with = |metadata_left, data_used| {
        let chunks =
            Chunks { metadata_left: Bytes(metadata_left), data_used: Bytes(data_used), ..roomy_chunks() };
        let chunks = Some(chunks);
        found_on(Traits::default(), &roomy(), &Limits { chunks, ..Limits::default() })
    };
    let told = |severity| Some((FindingCode::MetadataFull, severity));
    assert_eq!(only(&with(8 * MIB - 1, 60 * GIB)), told(Severity::Critical));
    let warned = with(16 * MIB - 1, 60 * GIB);
    assert_eq!(only(&warned), told(Severity::Warning));
    assert_eq!(
        warned[0].message,
        "its metadata can grow by only 16.0 MiB, though 30.0 GiB that are set aside for data are unused: \
         `btrfs balance start -dusage=67,limit=7 '/srv/it'\\''s'` gives some of that back by moving data \
         together, which keeps the disk busy"
    );
    assert_eq!(only(&with(21 * MIB, 60 * GIB)), None, "more than a percent");
    assert_eq!(only(&with(0, 89 * GIB)), told(Severity::Critical));
    assert_eq!(only(&with(0, 89 * GIB + 1)), None, "data is full, too");
    let nearly = &with(0, 89 * GIB)[0].message;
    assert!(nearly.contains("-dusage=99,limit=200 "), "{nearly}");
    assert!(nearly.contains("`btrfs device add DEVICE '/srv/it'"), "{nearly}");
}

#[test]
fn an_error_names_the_filesystems_own_repair_tool_or_none() {
    let advice = |mountpoint: &str, repair: Option<&'static str>, is_repaired_at_boot| {
        let tools = Tools { repair: repair.map(Command), is_repaired_at_boot, ..Tools::default() };
        let limits = Limits { errors: Some(2), ..Limits::default() };
        let found = find(&Evidence {
            mountpoint: Path::new(mountpoint),
            source: Path::new("/dev/sdb1"),
            traits: Traits { tools, ..Traits::default() },
            capacity: &roomy(),
            limits: &limits,
            longest_directory: None,
        });
        found[0].message.split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(advice("/srv", Some("mend {device}"), true), "unmount it and run `mend /dev/sdb1`");
    assert!(advice("/", Some("mend {device}"), true).contains("fsck.mode=force"));
    assert_eq!(advice("/", Some("mend {device}"), false), "start another system and run `mend /dev/sdb1`");
    assert_eq!(advice("/", None, false), "have it checked from another system");
    assert_eq!(advice("/srv", None, true), "unmount it and have it checked");
}

#[test]
fn snapshots_are_told_when_space_is_short() {
    let with = |available, metadata_left, snapshots| {
        let capacity = capacity_of(Figures { available: Bytes(available), ..roomy_figures() });
        let chunks = Some(Chunks { metadata_left: Bytes(metadata_left), ..roomy_chunks() });
        let limits = Limits { chunks, snapshots, ..Limits::default() };
        found_on(Traits::default(), &capacity, &limits)
    };
    let told = Some((FindingCode::SnapshotsKept, Severity::Warning));
    let many = with(5 * GIB - 1, GIB, Some(1234));
    assert_eq!(only(&many), told);
    assert!(many[0].message.starts_with("1,234 snapshots keep files"), "{many:?}");
    let one = with(0, GIB, Some(1));
    assert!(one[0].message.starts_with("a snapshot keeps files"), "{one:?}");
    assert_eq!(only(&with(5 * GIB, GIB, Some(1))), None);
    assert_eq!(only(&with(0, GIB, Some(0))), None);
    assert_eq!(only(&with(0, GIB, None)), None);
    let codes: Vec<_> = with(50 * GIB, 0, Some(1)).iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [FindingCode::MetadataFull, FindingCode::SnapshotsKept]);
}

#[test]
fn a_directory_that_may_not_grow_is_told() {
    let with = |directory, directory_index| {
        let limits = Limits { directory, directory_index, ..Limits::default() };
        found_on(ext4(), &roomy(), &limits)
    };
    let at = |mib| Some(Bytes(mib * MIB));
    assert_eq!(only(&with(at(10), None)), Some((FindingCode::DirectoryAtLimit, Severity::Critical)));
    assert_eq!(only(&with(at(11), None)), None);
    let full = with(None, at(15));
    assert_eq!(only(&full), Some((FindingCode::DirectoryIndexFull, Severity::Warning)));
    assert_eq!(
        full[0].message,
        "the directory /srv/many\\nnames may refuse new names: they take up 10.0 MiB and its index is 66 % \
         full; spread its files over several directories, or run `tune2fs -O large_dir /dev/sdb1` and mount it \
         again"
    );
    assert_eq!(only(&with(None, at(17))), None);
}

#[test]
fn an_image_is_told_of_that_cannot_be_filled() {
    let with = |holes, available| {
        let image = Image { path: "/image".into(), holes: Bytes(holes), available: Bytes(available) };
        only(&found_on(ext4(), &roomy(), &Limits { image: Some(image), ..Limits::default() }))
    };
    let told = |severity| Some((FindingCode::ImageWithoutSpace, severity));
    assert_eq!(with(50 * GIB, 0), told(Severity::Critical));
    assert_eq!(with(50 * GIB, 49 * GIB), told(Severity::Warning));
    assert_eq!(with(70 * GIB, 59 * GIB), told(Severity::Warning));
    assert_eq!(with(70 * GIB, 60 * GIB), None, "no more is free");
    assert_eq!(with(0, 0), None, "no hole");
}

#[test]
fn what_takes_up_memory_is_told() {
    let with = |available, memory| {
        let capacity = capacity_of(Figures { available: Bytes(available), ..roomy_figures() });
        let memory = Some(Bytes(memory * GIB));
        found_on(in_memory(), &capacity, &Limits { memory, ..Limits::default() })
    };
    let limit = with(0, 1000);
    assert_eq!(only(&limit), Some((FindingCode::MemoryLimitReached, Severity::Critical)));
    let message = &limit[0].message;
    assert!(message.contains(r"`mount -o remount,size=153600M '/srv/it'\''s'`"), "{message}");
    let much = with(50 * GIB, 100);
    assert_eq!(only(&much), Some((FindingCode::MemoryTaken, Severity::Warning)));
    assert!(much[0].message.contains("40.0 GiB of memory or swap, 40 % of the machine's 100.0 GiB"));
}

#[test]
fn the_worst_quota_is_told_with_how_many_more() {
    let quota = |used, refuses| Quota {
        owner: Owner::User("eve; rm -rf".into()),
        amount: Amount::Bytes,
        used,
        limit: 10 * MIB,
        refuses,
    };
    let quotas = vec![quota(11 * MIB, false), quota(10 * MIB, true), quota(9 * MIB, false)];
    let found = found_on(ext4(), &roomy(), &Limits { quotas, ..Limits::default() });
    assert_eq!(only(&found), Some((FindingCode::QuotaReached, Severity::Critical)));
    assert_eq!(
        found[0].message,
        "the quota of user eve; rm -rf is used up, 10.0 MiB of 10.0 MiB (and 2 more): `edquota -u 'eve; rm \
         -rf'` changes it"
    );
}

#[test]
fn a_device_with_room_is_told_and_how_to_use_it() {
    let with = |grow: Option<&'static str>, used| {
        let traits =
            Traits { tools: Tools { grow: grow.map(Command), ..Tools::default() }, ..Traits::default() };
        let device = Device { number: 2, node: "/dev/sdc".into(), size: Bytes(10 * GIB), used: Bytes(used) };
        found_on(traits, &roomy(), &Limits { devices: vec![device], ..Limits::default() })
    };
    for (grow, command) in [
        (Some("resize2fs {device}"), "has 10.0 GiB: `resize2fs /dev/sdc`"),
        (Some("grow {number}:max {mountpoint}"), r"has 10.0 GiB: `grow 2:max '/srv/it'\''s'`"),
        (None, "has 10.0 GiB"),
    ] {
        let found = with(grow, 9 * GIB);
        assert_eq!(only(&found), Some((FindingCode::NeverGrown, Severity::Warning)));
        assert!(found[0].message.contains(command), "{found:?}");
    }
    assert_eq!(only(&with(None, 10 * GIB - 50 * MIB)), None, "less than a percent");
}

#[test]
fn the_worst_comes_first() {
    let limits = Limits { errors: Some(1), ..Limits::default() };
    let found = found_on(ext4(), &capacity_of(Figures { inodes_free: 0, ..roomy_figures() }), &limits);
    let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [FindingCode::InodesExhausted, FindingCode::ErrorsNoted]);
}
