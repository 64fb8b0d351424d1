// SPDX-License-Identifier: MIT OR Apache-2.0

//! Snapshots of the screens, and what holds for every screen.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anstream::adapter::strip_str;
use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::model::capacity::{self, Figures};
use crate::model::deleted::{
    self, DescriptorInfo, Hold, KernelHolder, KernelVia, MountedAt, ProcessHolder, Reason,
};
use crate::model::findings::{Evidence, FindingCode, Severity, find};
use crate::model::last_name::LastName;
use crate::model::ledger::{Ledger, Views};
use crate::model::limits::Limits;
use crate::model::open_flags::OpenFlags;
use crate::model::process;
use crate::model::process::{Identity, Membership, Program, Service};
use crate::model::remedies::{self, advise};
use crate::model::traits::{ReservedFor, Traits};
use crate::model::usage::{self, Tally};
use crate::report::{
    self, Entry, Finding, Hidden, Method, Overlay, Remedy, Row, Run, SCHEMA_VERSION, Skipped, Tool,
    UnattributedReason,
};

const GIB: u64 = 1 << 30;
/// A tenth of a GiB, rounded down.
const TENTH: u64 = GIB / 10;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_403_224)
}

pub(super) fn style() -> Style {
    Style {
        width: 100,
        unicode: true,
        units: Units::Binary,
        top: 10,
        directories: false,
        hidden: false,
        detail: Detail::Normal,
        now: now(),
    }
}

fn file(
    tenths: u64,
    pid: i32,
    fd: u32,
    command: &str,
    unit: &str,
    path: &str,
    age: u64,
) -> deleted::DeletedFile {
    let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let program = Some(Program { name: command.to_owned(), uid: 0, user: "root".to_owned() });
    let service = named(unit).filter(|unit| unit != "session-3.scope").map(|unit| Service {
        unit,
        main: program.clone(),
        uid: Some(0),
    });
    let process = process::Process {
        command: named(command),
        membership: Membership { unit: named(unit), ..Membership::default() },
        identity: Identity { program, uid: Some(0), service, ..Identity::default() },
        ..process::Process::default()
    };
    let info = DescriptorInfo { flags: OpenFlags(libc::O_WRONLY | libc::O_APPEND), position: 0 };
    let hold = Hold { pid, tid: None, via: deleted::Via::Descriptor { number: fd, info: Some(info) } };
    deleted::DeletedFile {
        inode: 4_063_241,
        bytes: Bytes(tenths * TENTH),
        name: LastName::Told(path.into()),
        written: Some(now() - Duration::from_secs(age)),
        held_by: vec![deleted::Holder::Process(ProcessHolder { hold, process: Arc::new(process) })],
        ..deleted::DeletedFile::default()
    }
}

fn files() -> Vec<deleted::DeletedFile> {
    vec![
        file(318, 1841, 412, "java", "kafka.service", "/var/log/kafka/server.log.3", 2),
        file(29, 903, 7, "rsyslogd", "rsyslog.service", "/var/log/syslog.1", 6 * 86_400),
        file(
            5,
            22710,
            61,
            "postgres",
            "postgresql@15-main",
            "/var/lib/postgresql/15/main/base/16384/2619",
            2460,
        ),
    ]
}

fn remedies(files: &[deleted::DeletedFile], hidden: &[usage::Hidden], is_listed: bool) -> Vec<Remedy> {
    let filesystem = remedies::Filesystem { mountpoint: "/".as_ref(), is_listed };
    advise(files, hidden, filesystem).into_iter().map(Remedy::from).collect()
}

fn tally(tenths: u64, inodes: u64) -> Tally {
    Tally { bytes: Bytes(tenths * TENTH), inodes }
}

/// A filesystem of 100 GiB with these views.
pub(super) fn filesystem(views: &Views, files: &[deleted::DeletedFile]) -> Filesystem {
    let ledger = Ledger::close(views);
    let hidden = views.hidden.map(|tally| usage::Hidden {
        mountpoint: "/var/lib/docker".into(),
        tally,
        largest: None,
    });
    let free = (100 * GIB).saturating_sub(views.used.0);
    let figures = Figures {
        size: Bytes(100 * GIB),
        used: views.used,
        free: Bytes(free),
        available: Bytes(free.saturating_sub(5 * GIB)),
        reserved: Bytes(5 * GIB),
        inodes: 6_553_600,
        inodes_free: 5_000_000,
    };
    Filesystem {
        mountpoint: "/".into(),
        root: "/".into(),
        source: "/dev/nvme0n1p2".into(),
        fstype: "ext4".into(),
        traits: Traits { reserved_for: ReservedFor::Root, ..Traits::default() },
        dev: "259:2".into(),
        overlay: None,
        capacity: Capacity::from(&capacity::Capacity { figures, ..capacity::Capacity::default() }),
        method: Method::Walk,
        method_note: None,
        unconfined_note: None,
        visible_bytes: views.visible.bytes,
        gap_bytes: ledger.gap,
        ledger: ledger.rows.iter().map(|row| Row::new(row, &[])).collect(),
        unexplained_bound_bytes: ledger.bound,
        remedies: remedies(files, hidden.as_slice(), true),
        deleted: files.iter().map(DeletedFile::from).collect(),
        unattributed_reasons: Vec::new(),
        hidden: hidden.iter().map(Hidden::from).collect(),
        directories: Vec::new(),
        findings: Vec::new(),
        processes_read: 412,
        skipped: Vec::new(),
    }
}

fn run() -> Run {
    Run {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "whyfull", version: "0.0.0" },
        host: "db1".into(),
        started: now(),
        finished: now(),
        elapsed_ms: 3249,
        as_root: true,
        complete: true,
        interrupted: false,
    }
}

pub(super) fn report(filesystems: Vec<Filesystem>) -> Report {
    Report { run: run(), filesystems }
}

fn full_views() -> Views {
    Views {
        used: Bytes(94 * GIB),
        moved: Bytes(7 * TENTH),
        visible: tally(560, 1_204_311),
        hidden: Some(tally(21, 310)),
        outside: None,
        unattributed: None,
        unlinked: tally(352, 14),
        kernel: Tally::default(),
        metadata: Some(Bytes(TENTH)),
        skipped: false,
        ..Views::default()
    }
}

fn full_disk() -> Filesystem {
    filesystem(&full_views(), &files())
}

fn skipped(kind: Kind, path: &str, needs: Option<&'static str>) -> Skipped {
    let errno = Some("EACCES".into());
    Skipped { kind, path: path.into(), errno, needs, matters: true, inode: None, check: None }
}

fn as_a_user() -> Report {
    let views = Views {
        hidden: None,
        metadata: None,
        unlinked: tally(4, 1),
        visible: tally(560, 1_181_020),
        skipped: true,
        ..full_views()
    };
    let own = [file(4, 4711, 3, "vim", "session-3.scope", "/home/u/.notes.swp", 5)];
    let mut user = filesystem(&views, &own);
    user.processes_read = 23;
    user.skipped = (0..389)
        .map(|pid| skipped(Kind::Process, &format!("/proc/{pid}"), Some("CAP_SYS_PTRACE")))
        .chain((0..37).map(|n| skipped(Kind::Directory, &format!("/root/{n}"), Some("CAP_DAC_READ_SEARCH"))))
        .chain(["/proc", "/sys", "/dev", "/run"].map(|at| skipped(Kind::Mount, at, Some("CAP_SYS_ADMIN"))))
        .collect();
    Report { run: Run { as_root: false, complete: false, ..run() }, ..report(vec![user]) }
}

fn screen(report: &Report, style: &Style) -> String {
    strip_str(&render(report, style)).to_string()
}

#[test]
fn a_full_disk() {
    insta::assert_snapshot!(screen(&report(vec![full_disk()]), &style()));
}

#[test]
fn a_full_disk_on_narrow_and_plain_terminals() {
    let report = report(vec![full_disk()]);
    insta::assert_snapshot!("80_columns", screen(&report, &Style { width: 80, ..style() }));
    insta::assert_snapshot!("70_columns", screen(&report, &Style { width: 70, ..style() }));
    insta::assert_snapshot!("50_columns", screen(&report, &Style { width: 50, ..style() }));
    insta::assert_snapshot!("ascii", screen(&report, &Style { unicode: false, ..style() }));
}

#[test]
fn what_mount_points_hide() {
    let mut disk = full_disk();
    let entry =
        |path: &str, tenths, inodes| Entry { path: path.into(), bytes: Bytes(tenths * TENTH), inodes };
    disk.hidden[0].largest =
        Some(vec![entry("/var/lib/docker/overlay2", 18, 290), entry("/var/lib/docker/old\nimage.tar", 3, 1)]);
    disk.remedies = remedies(&files(), &[], false);
    let empty =
        |path: &str, largest| Hidden { mountpoint: path.into(), bytes: Bytes(4096), inodes: 1, largest };
    disk.hidden.extend([
        empty("/proc", Some(vec![])),
        empty("/sys", Some(vec![])),
        empty("/not asked for", None),
    ]);
    let style = Style { hidden: true, ..style() };
    insta::assert_snapshot!("hidden_listed", screen(&report(vec![disk.clone()]), &style));
    let of = |hidden| {
        let screen = screen(&report(vec![Filesystem { hidden, ..disk.clone() }]), &style);
        screen.lines().find(|line| line.starts_with("No")).unwrap_or_default().to_owned()
    };
    assert_eq!(of(vec![]), "Nothing is mounted on /, so nothing is hidden there.");
    assert_eq!(
        of(vec![empty("/proc", Some(vec![]))]),
        "No files lie under /proc. The directory itself takes up 4.0 KiB."
    );
    assert_eq!(
        of(disk.hidden[1..].to_vec()),
        "No files lie under the 2 mount points. Their directories take up 8.0 KiB."
    );
}

#[test]
fn a_part_of_a_filesystem() {
    let views = Views { outside: Some(tally(300, 5000)), visible: tally(260, 1_204_311), ..full_views() };
    let mut part = filesystem(&views, &files());
    part.root = "/srv/data".into();
    insta::assert_snapshot!(screen(&report(vec![part]), &style()));
}

#[test]
fn other_units() {
    let report = report(vec![full_disk()]);
    insta::assert_snapshot!("si", screen(&report, &Style { units: Units::Decimal, ..style() }));
    insta::assert_snapshot!("bytes", screen(&report, &Style { units: Units::Plain, ..style() }));
}

#[test]
fn an_ordinary_user() {
    insta::assert_snapshot!(screen(&as_a_user(), &style()));
}

#[test]
fn healthy() {
    let views = Views { used: Bytes(413 * TENTH), visible: tally(412, 900_000), ..Views::default() };
    insta::assert_snapshot!(screen(&report(vec![filesystem(&views, &[])]), &style()));
}

#[test]
fn more_files_than_space() {
    let views =
        Views { used: Bytes(56 * GIB), visible: tally(610, 900_000), unlinked: tally(5, 1), ..full_views() };
    let mut clones = filesystem(&views, &[file(5, 7, 3, "tail", "", "/x", 60)]);
    clones.fstype = "xfs".into();
    clones.traits = Traits { shared_extents: true, ..Traits::default() };
    insta::assert_snapshot!(screen(&report(vec![clones]), &style()));
}

#[test]
fn an_overlay_on_a_disk_reserved_for_another_user() {
    let mut disk = full_disk();
    disk.overlay = Some(Overlay {
        mountpoint: "/merged".into(),
        path: "/var/lib/überlay/upper".into(),
        upper_bytes: Some(Bytes(3 * GIB)),
        upper_inodes: Some(1234),
    });
    disk.capacity.reserved_uid = Some(65534);
    let message = "names are escaped: ü \\n".to_owned();
    let (code, severity) = (FindingCode::QuotaReached, Severity::Warning);
    disk.findings = vec![Finding { code, severity, message }];
    let screen = screen(&report(vec![disk]), &Style { unicode: false, ..style() });
    insta::assert_snapshot!(screen.lines().take(5).collect::<Vec<_>>().join("\n"));
}

#[test]
fn several_filesystems_one_dead_one_interrupted() {
    let mut dead = filesystem(&Views::default(), &[]);
    dead.capacity = Capacity::default();
    (dead.mountpoint, dead.fstype, dead.source) = ("/mnt/nfs".into(), "nfs4".into(), "server:/export".into());
    dead.skipped =
        vec![Skipped { errno: Some("ETIMEDOUT".into()), ..skipped(Kind::Filesystem, "/mnt/nfs", None) }];
    let mut inodes = filesystem(&Views { used: Bytes(GIB), visible: tally(10, 7), ..Views::default() }, &[]);
    (inodes.mountpoint, inodes.capacity.inodes_free) = ("/mail".into(), 0);
    let figures = Figures {
        size: Bytes(100 * GIB),
        available: Bytes(94 * GIB),
        inodes: 6_553_600,
        inodes_free: 0,
        ..Figures::default()
    };
    let found = find(&Evidence {
        mountpoint: &inodes.mountpoint,
        source: &inodes.source,
        traits: inodes.traits,
        capacity: &capacity::Capacity { figures, ..capacity::Capacity::default() },
        limits: &Limits::default(),
        longest_directory: None,
    });
    inodes.findings = found.into_iter().map(Finding::from).collect();
    let run = Run { interrupted: true, complete: false, ..run() };
    let report = Report { run, ..report(vec![full_disk(), dead, inodes]) };
    insta::assert_snapshot!(screen(&report, &style()));
}

#[test]
fn held_by_the_kernel() {
    let holder = |via, name: &str, mounted| {
        deleted::Holder::Kernel(KernelHolder { mounted, ..KernelHolder::new(via, name.to_owned()) })
    };
    let by = |holder, inode, file| deleted::DeletedFile { inode, held_by: vec![holder], ..file };
    let image = file(200, 1, 1, "", "", "/srv/images/old.img", 60);
    let resolver = file(20, 1, 1, "", "", "/etc/resolv.conf", 60);
    let at = MountedAt { point: "/x".into(), mount: 1, namespace: None, task: None };
    let point = "/var/lib/containers/a/b/c/resolv.conf (seen by process 4711)";
    let mut files = [
        by(holder(KernelVia::Loop, "/dev/loop3", None), 12, image),
        by(holder(KernelVia::Mount, point, Some(at)), 13, resolver),
        file(1, 903, 7, "rsyslogd", "rsyslog.service", "/var/log/syslog.1", 60),
    ];
    files[2].held_by.push(holder(KernelVia::Loop, "/dev/loop4", None));
    let views = Views { kernel: tally(220, 2), unlinked: tally(1, 1), ..full_views() };
    insta::assert_snapshot!(screen(&report(vec![filesystem(&views, &files)]), &style()));
}

#[test]
fn a_queued_descriptor_is_told_as_queued() {
    let mut queued = file(20, 903, 7, "rsyslogd", "rsyslog.service", "/srv/data", 60);
    let deleted::Holder::Process(process) = &mut queued.held_by[0] else { unreachable!() };
    process.hold.via = deleted::Via::Socket { number: 7 };
    let disk = filesystem(&Views { unlinked: tally(20, 1), ..full_views() }, &[queued]);
    let screen = screen(&report(vec![disk]), &style());
    assert!(screen.contains("inode:4063241  queued for rsyslogd 903  /srv/data"), "{screen}");
    assert!(!screen.contains("rsyslog.service") && !screen.contains("903:7"), "{screen}");
}

#[test]
fn logs_that_are_reopened() {
    let of = |service| {
        let logs = [(200, 7), (100, 8)].map(|(tenths, fd)| {
            file(tenths, 903, fd, "rsyslogd", service, &format!("/var/log/{fd}.log"), 60)
        });
        let disk = filesystem(&Views { unlinked: tally(300, 2), ..full_views() }, &logs);
        let screen = screen(&report(vec![disk]), &style());
        screen.split_once("To free it:\n").unwrap().1.to_owned()
    };
    insta::assert_snapshot!([of("rsyslog.service"), of("session-3.scope")].concat());
}

#[test]
fn names_cannot_leave_their_line() {
    let evil = "/tmp/a\nb\u{1b}[2J\u{202e}gpj.\u{7}";
    let mut disk = full_disk();
    disk.deleted[0].path = Some(evil.into());
    let Holder::Process(process) = &mut disk.deleted[0].held_by[0] else { unreachable!() };
    process.command = Some("x\ny".into());
    process.unit = Some("u\u{1b}]0;t\u{7}.service".into());
    disk.mountpoint = "/mnt/a\nb".into();
    let screen = screen(&report(vec![disk]), &style());
    assert!(!screen.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{screen}");
    assert!(screen.contains(r"\u{202e}gpj.\u{7}"), "{screen}");
}

#[test]
fn the_list_of_skips() {
    let mut report = as_a_user();
    report.filesystems[0].skipped.truncate(3);
    insta::assert_snapshot!(screen(&report, &Style { detail: Detail::Verbose, ..style() }));
}

#[test]
fn what_lies_around_what_df_counts() {
    let part = |name: &str, bytes| report::Detail { name: name.to_owned(), bytes: Gap(bytes) };
    let tables = part("superblocks, tables and bitmaps", 66 << 20);
    let (journal, beyond) = (part("journal", 64 << 20), part("beyond the filesystem's end", 1536));
    let views = Views { used: Bytes(98 * GIB), visible: tally(980, 9), ..Views::default() };
    let disk = filesystem(&views, &[]);
    let reserved = |blocks, clusters| Capacity {
        device_bytes: Some(Bytes(101 * GIB)),
        reserved_blocks_bytes: Some(Bytes(blocks)),
        reserved_clusters_bytes: Some(Bytes(clusters)),
        ..disk.capacity.clone()
    };
    let around = |capacity: Capacity, width| {
        let disk = Filesystem { capacity, ..disk.clone() };
        let style = Style { detail: Detail::Verbose, width, ..style() };
        let screen = screen(&report(vec![disk]), &style);
        // Behind the header and the verdict.
        screen.split("\n\n").nth(2).unwrap_or_default().to_owned()
    };
    let new = Capacity { uncounted: Some(vec![tables.clone(), journal]), ..reserved(GIB, 16 << 20) };
    let full = Capacity {
        uncounted: Some(vec![tables, beyond]),
        reserved_uid: Some(7),
        reserved_bytes: Bytes(2 * GIB),
        ..reserved(5 * GIB, 16 << 20)
    };
    let xfs = Capacity { uncounted: Some(vec![part("log", 64 << 20)]), ..disk.capacity.clone() };
    let xfs = Capacity { device_bytes: Some(Bytes(101 * GIB)), ..xfs };
    let used_up = Capacity {
        free_bytes: Bytes::ZERO,
        reserved_bytes: Bytes::ZERO,
        uncounted: Some(Vec::new()),
        ..reserved(GIB, 0)
    };
    let screens = [around(new, 100), around(full, 60), around(xfs, 100), around(used_up, 100)];
    insta::assert_snapshot!(screens.join("\n"));
    assert_eq!(around(reserved(0, 0), 100), "");
}

proptest! {
    /// A path without blanks cannot be broken; everything else fits.
    #[test]
    fn no_line_is_wider_than_the_screen(
        width in 60usize..=100, tenths in proptest::collection::vec(0u64..1 << 20, 4), unicode in any::<bool>()
    ) {
        let views = Views {
            used: Bytes(tenths[0] * TENTH),
            visible: tally(tenths[1], 5),
            hidden: Some(tally(tenths[2], 6)),
            unlinked: tally(tenths[3], 7),
            ..full_views()
        };
        let report = report(vec![filesystem(&views, &files())]);
        let screen = screen(&report, &Style { width, unicode, ..style() });
        for line in screen.lines().filter(|line| !line.contains("sudo ")) {
            prop_assert!(line.width() <= width, "{} > {width}: {line}", line.width());
        }
    }

    /// The amounts of the rows, as printed, add up to the gap, as printed.
    #[test]
    fn printed_rows_add_up(used in 0u64..1000, visible in 0u64..1000, hidden in 0u64..300, unlinked in 0u64..300, kernel in 0u64..300) {
        let views = Views {
            used: Bytes(used * TENTH + 12_345_678),
            visible: tally(visible, 5),
            hidden: Some(tally(hidden, 6)),
            unlinked: tally(unlinked, 7),
            kernel: tally(kernel, 8),
            ..full_views()
        };
        let disk = filesystem(&views, &[]);
        prop_assume!(!is_healthy(&disk));
        let screen = screen(&report(vec![disk]), &style());
        let labels = [
            "deleted, still open",
            "deleted, kernel-held",
            "hidden under a mount",
            "internal to ext4",
            "unexplained",
        ];
        let rows = screen.lines().filter_map(|line| labels.iter().find_map(|label| line.trim().strip_prefix(label)));
        let tenths = |text: &str| text.split_whitespace().next().unwrap().replace('.', "").parse::<i64>().unwrap();
        let sum: i64 = rows.map(tenths).sum();
        let sentence = screen.lines().find(|line| line.starts_with("The files")).unwrap();
        let gap = sentence.split_once("The other ").map(|(_, gap)| gap);
        let gap = gap.or_else(|| sentence.split_once(", ").map(|(_, gap)| gap)).unwrap();
        prop_assert_eq!(sum, tenths(gap), "{}", screen);
    }
}

#[test]
fn what_may_hold_those_without_a_holder() {
    let unheld = |file: DeletedFile| DeletedFile { held_by: Vec::new(), ..file };
    let mut filesystem = full_disk();
    filesystem.deleted = filesystem.deleted.into_iter().map(unheld).collect();
    filesystem.unattributed_reasons =
        [(Reason::ProcessesNotInspected, 1), (Reason::SocketsWithQueuedDescriptors, 3)]
            .map(|(reason, count)| UnattributedReason { reason, count })
            .to_vec();
    let text = screen(&report(vec![filesystem]), &Style { width: 200, ..style() });
    let expected = "No holder was found for 3 of them. \
        Possible holders: 1 process that could not be inspected and 3 sockets with queued descriptors.";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn files_of_deleted_subvolumes_keep_more_than_themselves() {
    let mut filesystem = full_disk();
    filesystem.deleted[1].in_deleted_subvolume = true;
    // Nothing of their own, such as a working directory.
    filesystem.deleted[1].bytes = Bytes::ZERO;
    let text = screen(&report(vec![filesystem]), &Style { width: 200, ..style() });
    assert!(
        text.contains("with all that is in it, while one of its files is held. Holders: 903:7."),
        "{text}"
    );
}

#[test]
fn what_does_not_matter_is_told_on_request() {
    let mut disk = full_disk();
    disk.skipped =
        vec![Skipped { matters: false, ..skipped(Kind::Process, "/proc/7", Some("CAP_SYS_PTRACE")) }];
    let report = report(vec![disk]);
    let quiet = screen(&report, &style());
    assert!(!quiet.contains("Not looked into") && !quiet.contains("/proc/7"), "{quiet}");
    assert!(quiet.contains("nothing that matters was skipped"), "{quiet}");
    let verbose = screen(&report, &Style { detail: Detail::Verbose, ..style() });
    assert!(!verbose.contains("Not looked into"), "{verbose}");
    assert!(verbose.contains("/proc/7"), "{verbose}");
}
