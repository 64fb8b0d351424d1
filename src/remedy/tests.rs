use super::*;
use crate::report::{HeldBy, Kernel, Process};

const MIB: u64 = 1 << 20;
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn log(pid: i32, command: &str, service: Option<&str>) -> Process {
    Process {
        pid,
        fd: Some(7),
        via: "fd",
        flags: Some("O_WRONLY|O_APPEND".into()),
        command: Some(command.to_owned()),
        system_service: service.map(str::to_owned),
        ..Process::default()
    }
}

fn file(inode: u64, bytes: u64, held_by: Vec<HeldBy>) -> Holder {
    Holder { kind: "file", inode, bytes: Bytes(bytes), held_by, ..Holder::default() }
}

fn held(inode: u64, mib: u64, processes: Vec<Process>) -> Holder {
    file(inode, mib * MIB, processes.into_iter().map(HeldBy::Process).collect())
}

fn kernel(via: &'static str, name: &str, mounted: Option<MountedAt>) -> HeldBy {
    HeldBy::Kernel(Kernel { via, name: name.to_owned(), mounted })
}

/// Group, MiB and command of each.
fn advice(holders: &[Holder]) -> Vec<(usize, u64, String)> {
    let all = advise(holders, &[], Some(Path::new("/m"))).into_iter();
    all.map(|remedy| (remedy.group, remedy.frees_bytes.0 / MIB, remedy.command.join(" "))).collect()
}

/// The commands for one file.
fn commands(holder: Holder) -> Vec<String> {
    advice(&[holder]).into_iter().map(|(_, _, command)| command).collect()
}

#[test]
fn a_service_frees_what_it_alone_holds() {
    let (a, b) = (Some("a.service"), Some("b.service"));
    let held = |bytes, services: &[Option<&str>]| {
        let processes = services.iter().map(|service| HeldBy::Process(log(1, "java", *service)));
        file(bytes, bytes, processes.collect())
    };
    let mut by_kernel = held(100, &[a]);
    by_kernel.held_by.push(kernel("loop", "/dev/loop0", None));
    let holders = [
        held(5, &[a]),
        held(7, &[b]),
        held(3, &[a, a]),
        held(99, &[a, b]),
        held(98, &[None]),
        held(0, &[a]),
        by_kernel,
    ];
    let restarts: Vec<_> = advise(&holders, &[], None)
        .into_iter()
        .map(|remedy| (remedy.action, remedy.command[2].clone(), remedy.frees_bytes))
        .collect();
    let restart = |unit: &str, bytes| (Action::RestartUnit, unit.to_owned(), Bytes(bytes));
    assert_eq!(restarts, [restart("a.service", 8), restart("b.service", 7)]);
}

#[test]
fn the_least_harmful_stands_first() {
    let syslog = |inode, mib| held(inode, mib, vec![log(903, "rsyslogd", Some("rsyslog.service"))]);
    let buffer = Process { flags: Some("O_RDWR".into()), ..log(903, "rsyslogd", Some("rsyslog.service")) };
    let all = advice(&[syslog(4, 20), syslog(5, 10), held(6, 5, vec![buffer]), held(9, 40, vec![])]);
    let expected = [
        (0, 0, "whyfull recover inode:9 --filesystem /m DEST"),
        (0, 40, "whyfull release inode:9 --filesystem /m"),
        (1, 30, "systemctl kill --kill-who=main --signal=HUP rsyslog.service"),
        (1, 0, "whyfull recover 903:7 --inode 4 DEST"),
        (1, 0, "whyfull recover 903:7 --inode 5 DEST"),
        (1, 0, "whyfull recover 903:7 --inode 6 DEST"),
        (1, 35, "systemctl restart rsyslog.service"),
        (1, 20, "whyfull release 903:7 --inode 4"),
        (1, 10, "whyfull release 903:7 --inode 5"),
        (1, 5, "whyfull release 903:7 --inode 6"),
    ];
    assert_eq!(all, expected.map(|(group, mib, command)| (group, mib, command.to_owned())));
}

#[test]
fn daemons_outside_of_services_are_signalled_where_all_their_processes_take_it() {
    let first = |processes| commands(held(4, 2, processes)).remove(0);
    assert_eq!(first(vec![log(5, "rsyslogd", None)]), "kill -HUP 5");
    assert_eq!(first(vec![log(9, "nginx", None), log(5, "nginx", None)]), "kill -USR1 5 9");
    let none = "whyfull recover 5:7 --inode 4 DEST";
    assert_eq!(first(vec![log(5, "apache2", None)]), none);
    assert_eq!(first(vec![log(5, "nginx", None), log(6, "tail", None)]), none);
    assert_eq!(first(vec![log(5, "java", None)]), none);
    let read_write = Process { flags: Some("O_RDWR|O_CLOEXEC".into()), ..log(5, "nginx", None) };
    assert_eq!(first(vec![read_write]), none);
    let apache = log(5, "apache2", Some("apache2.service"));
    assert_eq!(first(vec![apache]), "systemctl kill --kill-who=main --signal=USR1 apache2.service");
}

#[test]
fn containers_are_restarted_by_what_runs_them() {
    let inside = |runtime| Process {
        container: Some(ID.to_owned()),
        runtime,
        ..log(5, "nginx", Some("docker.service"))
    };
    let restart = |runtime| commands(held(4, 2, vec![inside(runtime)])).remove(1);
    assert_eq!(restart(Some(Runtime::Docker)), "docker restart 0123456789ab");
    assert_eq!(restart(Some(Runtime::Podman)), "podman restart 0123456789ab");
    assert_eq!(restart(Some(Runtime::Kubernetes)), "crictl stop 0123456789ab");
    assert_eq!(restart(None), "whyfull release 5:7 --inode 4");
    let both = held(4, 2, vec![inside(Some(Runtime::Docker)), log(6, "tail", None)]);
    assert_eq!(commands(both)[1], "whyfull release 5:7 --inode 4");
}

#[test]
fn the_kernel_is_told_to_let_go() {
    let by = |hold| commands(file(4, 2 * MIB, vec![hold]));
    let copy = "whyfull recover inode:4 --filesystem /m DEST";
    assert_eq!(by(kernel("loop", "/dev/loop3", None)), [copy, "losetup -d /dev/loop3"]);
    let at = |task| Some(MountedAt { point: "/a point".into(), task });
    assert_eq!(by(kernel("mount", "", at(None))), [copy, "umount /a point"]);
    assert_eq!(by(kernel("mount", "", at(Some(7)))), [copy, "nsenter -t 7 -m umount /a point"]);
    assert_eq!(by(kernel("mount", "", None)), [copy]);
    assert_eq!(by(kernel("binfmt_misc", "x", None)), [copy]);
    assert!(by(kernel("swap", "/swapfile", None)).is_empty());
    let twice = vec![kernel("loop", "/dev/loop3", None), kernel("loop", "/dev/loop4", None)];
    assert_eq!(commands(file(4, 2 * MIB, twice)), [copy]);
}

#[test]
fn what_runs_or_is_mapped_is_not_emptied() {
    let via = |via| Process { via, fd: None, tid: Some(6), ..log(5, "java", None) };
    assert_eq!(commands(held(4, 2, vec![via("map")])), ["whyfull recover 6:map --inode 4 DEST"]);
    assert!(commands(held(4, 2, vec![via("exe"), via("map")])).is_empty());
    assert!(commands(Holder { kind: "directory", ..held(4, 2, vec![via("cwd")]) }).is_empty());
    assert!(commands(held(4, 0, vec![log(5, "java", None)])).is_empty());
    let queued = held(4, 2, vec![via("socket")]);
    assert_eq!(commands(queued.clone())[1], "whyfull release inode:4 --filesystem /m");
    assert!(advise(std::slice::from_ref(&queued), &[], None).is_empty());
    assert!(commands(Holder { in_deleted_subvolume: true, ..queued }).is_empty());
}

#[test]
fn who_might_be_harmed_is_told_first() {
    let warned = |holder: Holder| {
        let all = advise(&[holder], &[], None);
        assert!(all.iter().all(|remedy| remedy.loses_data || remedy.warning.is_none()));
        all.into_iter().find_map(|remedy| remedy.warning).unwrap_or_default()
    };
    let service = |command: &str| held(4, 2, vec![log(5, command, Some("a.service"))]);
    let named = |path: &str| Holder { path: Some(path.into()), ..service("x") };
    assert!(warned(service("postgres")).contains("database"));
    assert!(warned(named("/var/places.sqlite")).contains("database"));
    assert!(warned(service("qemu-system-x86")).contains("virtual machine"));
    assert!(warned(named("/srv/a.qcow2")).contains("virtual machine"));
    let mapped = |path: &str| {
        let map = Process { via: "map", ..log(5, "java", Some("a.service")) };
        Holder { path: Some(path.into()), ..held(4, 2, vec![map]) }
    };
    assert!(warned(mapped("/srv/index")).contains("mapped"));
    assert_eq!(warned(mapped("/usr/lib/libc.so.6")), "");
    assert_eq!(warned(service("rsyslogd")), "");
}

#[test]
fn what_is_hidden_is_pointed_out_until_it_is_listed() {
    let hidden = |bytes, largest| Hidden { mountpoint: "/m".into(), bytes: Bytes(bytes), inodes: 2, largest };
    let all = [hidden(2 << 20, None), hidden(3 << 20, Some(Vec::new())), hidden(4096, None)];
    let [remedy] = advise(&[], &all, None).try_into().unwrap();
    assert_eq!((remedy.action, remedy.frees_bytes), (Action::ListHidden, Bytes(2 << 20)));
    assert_eq!(remedy.command, ["whyfull", "--hidden", "/m"]);
}
