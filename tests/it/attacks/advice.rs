// SPDX-License-Identifier: MIT OR Apache-2.0

//! Advice that would run a user's program as root, or hit somebody whom a user chooses.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::child::terminal;
use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::holder::{self, Holder};
use crate::support::kernel::{Namespace, file};
use crate::support::programs::{in_control_group, install};
use crate::support::report::{holder_of, list, number, only, report};
use crate::support::whyfull::whyfull;
use crate::support::{KIB, MIB};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

fn remedies(fs: &Filesystem) -> Vec<Value> {
    list(&only(&report(fs.path()))["remedies"]).to_vec()
}

fn command(remedy: &Value) -> Vec<&str> {
    list(&remedy["command"]).iter().map(|word| word.as_str().unwrap()).collect()
}

fn actions(fs: &Filesystem) -> Vec<String> {
    remedies(fs).iter().map(|remedy| remedy["action"].as_str().unwrap().to_owned()).collect()
}

/// Does as root what the only advice of that kind says, with an answer of yes.
fn carry_out(fs: &Filesystem, action: &str) -> std::process::Output {
    let all = remedies(fs);
    let of_kind: Vec<_> = all.iter().filter(|remedy| remedy["action"] == action).collect();
    assert_eq!(of_kind.len(), 1, "{all:#?}");
    let words = command(of_kind[0]);
    assert_eq!(words[..2], ["whyfull", "release"], "{words:?}");
    Command::new(env!("CARGO_BIN_EXE_whyfull")).args(&words[1..]).arg("--yes").output().unwrap()
}

fn succeeds(fs: &Filesystem, action: &str) {
    let before = fs.used();
    let done = carry_out(fs, action);
    assert!(done.status.success(), "{done:?}");
    assert!(fs.used() < before, "{done:?}");
    assert_eq!(list(&only(&report(fs.path()))["deleted"]).len(), 0);
}

/// A file on `fs`, and a place to bind it that all may pass through.
fn to_be_bound(fs: &Filesystem, place: &str) -> (PathBuf, PathBuf) {
    let (path, point) = (fs.path().join("file"), fs.beside(place).join("x"));
    file(&path, 64 * KIB);
    File::create(&point).unwrap();
    (path, point)
}

/// Every program that could be meant is the user's in his mount namespace.
#[test]
fn nothing_of_a_users_mount_namespace_is_run() {
    require_root!();
    for by_nobody in [true, false] {
        let fs = Filesystem::ext4(64 * MIB);
        let (path, point) = to_be_bound(&fs, "at");
        let seen = fs.beside("seen");
        fs::set_permissions(&seen, PermissionsExt::from_mode(0o777)).unwrap();
        let planted = fs.beside("planted").join("umount");
        fs::write(&planted, format!("#!/bin/sh\nid -u >>{}/uid\n", seen.display())).unwrap();
        fs::set_permissions(&planted, PermissionsExt::from_mode(0o755)).unwrap();
        let script = r#"mount --bind "$1" "$2"
            for program in whyfull umount sudo kill losetup systemctl; do
                found=$(env which $program) && mount --bind "$3" "$(readlink -f "$found")"
            done
            true"#;
        let args = [path.as_path(), &point, &planted];
        let namespace = if by_nobody {
            Namespace::by_nobody(script, &args)
        } else {
            Namespace::new(&["--mount"], script, &args)
        };
        fs::remove_file(&path).unwrap();
        let text = whyfull().arg(fs.path()).run();
        assert!(!text.text().contains("nsenter"), "{text:?}");
        succeeds(&fs, "unmount");
        assert!(!seen.join("uid").exists(), "a user's program was run");
        drop(namespace);
    }
}

/// Between report and paste the user moves the directory in which the mount is, and has a link lead to
/// something of root's in its place.
#[test]
fn a_link_in_place_of_the_way_to_a_mount_leads_nowhere() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (path, point) = to_be_bound(&fs, "users");
    bind(&path, &point);
    fs::remove_file(&path).unwrap();
    let precious = fs.beside("roots").join("x");
    File::create(&precious).unwrap();
    bind(Path::new("/etc/hostname"), &precious);
    let all = remedies(&fs);
    let words: Vec<String> = command(&all[0]).into_iter().map(str::to_owned).collect();
    let users = point.parent().unwrap();
    fs::rename(users, users.with_file_name("moved")).unwrap();
    symlink(precious.parent().unwrap(), users).unwrap();
    let before = fs.used();
    let whyfull = env!("CARGO_BIN_EXE_whyfull");
    let done = Command::new(whyfull).args(&words[1..]).arg("--yes").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let mounted = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(mounted.contains(precious.to_str().unwrap()), "what root has mounted stays: {done:?}");
    assert!(fs.used() < before, "{done:?}");
}

/// Answers after `meanwhile`, once it has asked.
fn asked(fs: &Filesystem, inode: u64, meanwhile: impl FnOnce()) -> (Option<i32>, String) {
    let run =
        whyfull().args(&["release", "--unmount", &format!("inode:{inode}"), "--filesystem"]).arg(fs.path());
    let (mut master, slave) = terminal(80);
    let mut command = run.command();
    command.stdin(slave.try_clone().unwrap()).stderr(slave).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut said = Vec::new();
    while !said.ends_with(b"[y/N] ") {
        let mut byte = [0];
        master.read_exact(&mut byte).unwrap();
        said.extend(byte);
    }
    meanwhile();
    master.write_all(b"y\n").unwrap();
    let status = child.wait().unwrap();
    drop(master.read_to_end(&mut said));
    (status.code(), String::from_utf8(said).unwrap())
}

/// What is unmounted is what was shown, though another mount is at the same place by now.
#[test]
fn a_mount_that_took_the_place_of_the_one_shown_stays() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (path, point) = to_be_bound(&fs, "at");
    bind(&path, &point);
    let inode = path.metadata().unwrap().ino();
    fs::remove_file(&path).unwrap();
    let (status, said) = asked(&fs, inode, || {
        nix::mount::umount(&point).unwrap();
        bind(Path::new("/etc/hostname"), &point);
    });
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no longer what is mounted there"), "{said}");
    let mounted = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(mounted.contains(point.to_str().unwrap()), "{said}");
    // Nor one that is reached through a link, though it is that very mount.
    let (path, point) = to_be_bound(&fs, "below");
    bind(&path, &point);
    let inode = path.metadata().unwrap().ino();
    fs::remove_file(&path).unwrap();
    let below = point.parent().unwrap();
    let (status, said) = asked(&fs, inode, || {
        fs::rename(below, below.with_file_name("moved")).unwrap();
        symlink(below.with_file_name("moved"), below).unwrap();
    });
    assert_eq!(status, Some(2), "{said}");
}

#[test]
fn what_is_in_use_or_held_besides_is_not_unmounted() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (directory, at) = (fs.path().join("directory"), fs.beside("at"));
    fs::create_dir(&directory).unwrap();
    let inode = directory.metadata().unwrap().ino().to_string();
    bind(&directory, &at);
    fs::create_dir(at.join("below")).unwrap();
    mount_tmpfs(&at.join("below"), MIB, nix::mount::MsFlags::empty());
    let run = |inode: &str| {
        let release =
            whyfull().args(&["release", "--unmount", "--yes", &format!("inode:{inode}"), "--filesystem"]);
        release.arg(fs.path())
    };
    run(&inode).refused("no deleted file");
    nix::mount::umount(&at.join("below")).unwrap();
    fs::remove_dir(directory.join("below")).unwrap();
    fs::remove_dir(&directory).unwrap();
    let user = Command::new("sleep").arg("60").current_dir(&at).spawn();
    let mut user = user.unwrap();
    run(&inode).refused(&format!("sleep {}", user.id()));
    user.kill().unwrap();
    user.wait().unwrap();
    let held = Holder::start("fd", &fs.path().join("held"));
    run(&held.inode().to_string()).refused("holds it, too");
    run(&inode).done();
}

/// A process calls itself a daemon, runs a copy of one, or has put its own in the daemon's place in a mount
/// namespace of its own.
#[test]
fn only_the_systems_own_daemon_is_signalled() {
    require_root!();
    let layer = Filesystem::tmpfs(MIB);
    let daemon = install(&layer, "rsyslogd");
    let signalled = |start: &dyn Fn(&Path) -> Holder, group: Option<&str>| {
        let fs = Filesystem::ext4(64 * MIB);
        fs::set_permissions(fs.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let holder = start(&fs.path().join("log"));
        in_control_group(&fs, holder.pid(), group.unwrap_or("/"));
        actions(&fs).contains(&"reopen_logs".to_owned())
    };
    let copy = layer.beside("copy").join("rsyslogd");
    fs::copy(holder::program(), &copy).unwrap();
    let unit = Some("/system.slice/rsyslog.service");
    for group in [None, unit] {
        assert!(signalled(&|path| Holder::start_program(&daemon, "log", path, false), group), "the daemon");
        let by_nobody = |path: &Path| Holder::start_program(&daemon, "log", path, true);
        assert!(!signalled(&by_nobody, group), "anybody may run it");
        assert!(!signalled(&|path| Holder::start("log", path), group), "it only calls itself so");
        assert!(!signalled(&|path| Holder::start_program(&copy, "log", path, false), group), "a copy");
        let bound = |path: &Path| {
            let script = r#"mount --bind "$0" /usr/sbin/rsyslogd; exec /usr/sbin/rsyslogd log "$1""#;
            Holder::start_in(&["unshare", "--mount", "sh", "-ec", script], &[&copy, path])
        };
        assert!(!signalled(&bound, group), "its own in the place of the daemon");
    }
    // Root's own, but not what that service itself runs.
    let fs = Filesystem::ext4(64 * MIB);
    let holder = Holder::start_program(&daemon, "log", &fs.path().join("log"), false);
    let cron = Holder::start("fd", &layer.path().join("cron"));
    for pid in [holder.pid(), cron.pid()] {
        in_control_group(&fs, pid, "/system.slice/cron.service");
    }
    assert!(!actions(&fs).contains(&"reopen_logs".to_owned()), "the signal would hit another");
}

/// A program that others may write to is not the system's own, whatever directory it is in.
#[test]
fn a_daemon_that_others_can_change_is_not_signalled() {
    require_root!();
    let layer = Filesystem::tmpfs(MIB);
    let daemon = install(&layer, "rsyslogd");
    let fs = Filesystem::ext4(64 * MIB);
    let _holder = Holder::start_program(&daemon, "log", &fs.path().join("log"), false);
    assert!(actions(&fs).contains(&"reopen_logs".to_owned()));
    let writable = Filesystem::tmpfs(MIB);
    let file = install(&writable, "syslog-ng");
    assert!(file.exists());
    for (name, mode) in [("syslog-ng", 0o775), ("syslog-ng", 0o757)] {
        let own = Filesystem::tmpfs(MIB);
        let place = own.beside("place");
        fs::copy(holder::program(), place.join(name)).unwrap();
        fs::set_permissions(place.join(name), PermissionsExt::from_mode(mode)).unwrap();
        bind(&place.join(name), &file);
        let fs = Filesystem::ext4(64 * MIB);
        let _holder = Holder::start_program(&file, "log", &fs.path().join("log"), false);
        assert!(!actions(&fs).contains(&"reopen_logs".to_owned()), "{mode:o}");
        nix::mount::umount2(&file, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

/// Below a group that was delegated, its owner makes groups of whatever name.
#[test]
fn a_group_below_a_delegated_one_is_no_service_and_no_container() {
    require_root!();
    let user = "/user.slice/user-65534.slice/user@65534.service";
    for group in [
        format!("{user}/app.slice/docker-{ID}.scope"),
        format!("{user}/docker/{ID}"),
        format!("{user}/machine.slice/libpod-{ID}.scope/container"),
        format!("{user}/kubepods.slice/crio-{ID}.scope"),
        format!("{user}/system.slice/ssh.service"),
        format!("/../docker-{ID}.scope"),
        "/../system.slice/ssh.service".to_owned(),
        format!("/lxc.payload.guest/docker/{ID}"),
    ] {
        let fs = Filesystem::ext4(64 * MIB);
        let holder = Holder::start("append", &fs.path().join("file"));
        in_control_group(&fs, holder.pid(), &group);
        let report = report(fs.path());
        let held_by = &holder_of(only(&report), holder.inode())["held_by"][0];
        assert!(held_by["container"].is_null(), "{group}: {held_by:#}");
        let unit = held_by["unit"].as_str();
        assert_eq!(unit, group.starts_with(user).then_some("user@65534.service"), "{group}: {held_by:#}");
        assert_eq!(actions(&fs), ["recover", "release"], "{group}");
    }
}

#[test]
fn of_nested_containers_the_outermost_is_restarted() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holder = Holder::start("append", &fs.path().join("file"));
    in_control_group(&fs, holder.pid(), &format!("/system.slice/docker-{ID}.scope/docker/{INNER}"));
    let report = report(fs.path());
    let held_by = &holder_of(only(&report), holder.inode())["held_by"][0];
    assert_eq!((&held_by["container"], &held_by["nested_container"]), (&ID.into(), &INNER.into()));
    let all = list(&only(&report)["remedies"]);
    let restart = all.iter().find(|remedy| remedy["action"] == "restart_container").unwrap();
    assert_eq!(command(restart), ["docker", "restart", &ID[..12]]);
    assert!(restart["warning"].as_str().unwrap().contains("inside this one"), "{restart:#}");
}

/// Anybody who can connect to a service's socket can send it a descriptor.
#[test]
fn a_service_that_was_sent_a_descriptor_is_not_restarted() {
    require_root!();
    for situation in ["queued-stream", "queued-datagram"] {
        for group in ["/system.slice/dbus.service".to_owned(), format!("/system.slice/docker-{ID}.scope")] {
            let fs = Filesystem::ext4(64 * MIB);
            let holder = Holder::start(situation, &fs.path().join("file"));
            in_control_group(&fs, holder.pid(), &group);
            // Another run of the command may have a copy at that moment: then once more.
            let told = || {
                let report = report(fs.path());
                let held_by = list(&holder_of(only(&report), holder.inode())["held_by"]).to_vec();
                let text = whyfull().arg(fs.path()).run().text().to_owned();
                let alone = held_by.len() == 1 && text.contains("  queued for ");
                (held_by, actions(&fs), text, alone)
            };
            let mut looks = std::iter::repeat_with(told).take(20);
            let (held_by, actions, text, _) = looks.find(|(.., alone)| *alone).expect("a look by us alone");
            assert_eq!(held_by[0]["via"], "socket", "{held_by:#?}");
            assert!(!actions.iter().any(|action| action.starts_with("restart")), "{situation}, {group}");
            let queued = format!("inode:{}  queued for holder {}", holder.inode(), holder.pid());
            let handle = format!("{}:{}", holder.pid(), holder.fd());
            assert!(text.contains(&queued) && !text.contains(&handle), "{text}");
        }
    }
}

/// A job in cron.service, a CGI: what a service runs for a user need not end with it.
#[test]
fn a_service_is_not_restarted_for_a_users_process_in_it() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    fs::set_permissions(fs.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let main = Holder::start("fd", &Filesystem::tmpfs(MIB).path().join("main"));
    let job = Holder::start_as_nobody("append", &fs.path().join("file"));
    for pid in [main.pid(), job.pid()] {
        in_control_group(&fs, pid, "/system.slice/cron.service");
    }
    assert_eq!(actions(&fs), ["recover", "release"]);
}

/// A service holds a file of a user's, which it may have got from him.
#[test]
fn a_descriptor_that_a_user_may_have_sent_is_told() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holder = Holder::start("append", &fs.path().join("file"));
    in_control_group(&fs, holder.pid(), "/system.slice/dbus.service");
    let warning = || {
        let all = remedies(&fs);
        let restart = all.iter().find(|remedy| remedy["action"] == "restart_unit");
        let restart = restart.unwrap_or_else(|| panic!("{:#}", report(fs.path())));
        restart["warning"].clone()
    };
    assert_eq!(warning(), Value::Null);
    nix::unistd::chown(&holder.file(), Some(1000.into()), None).unwrap();
    assert!(warning().as_str().unwrap().contains("sent"), "{}", warning());
}

/// What is pasted from the screen is what JSON has as argv, whatever a mount point is called.
#[test]
fn a_name_cannot_become_a_command_when_it_is_pasted() {
    require_root!();
    for name in ["$(touch pwned)", "a; touch pwned", "-x", "a\n", "\u{1b}[2Ja'b", "a `touch pwned`"] {
        let fs = Filesystem::ext4(64 * MIB);
        let at = fs.beside("mounted").join(name);
        fs::create_dir(&at).unwrap();
        bind(fs.path(), &at);
        let path = at.join("file");
        let inode = file(&path, MIB);
        let point = fs.beside("point").join("x");
        File::create(&point).unwrap();
        bind(&path, &point);
        fs::remove_file(&path).unwrap();
        let plan = whyfull().args(&["release", "--unmount", "--dry-run", &format!("inode:{inode}")]);
        let plan = plan.arg("--filesystem").arg(&at).run();
        let line = plan.text().lines().find_map(|line| line.split_once("sudo ")).unwrap().1.to_owned();
        let at = at.to_str().unwrap();
        let what = format!("inode:{inode}");
        pasted(&line, &["whyfull", "recover", &what, "--filesystem", at, "DEST"]);
        for remedy in remedies(&fs) {
            let number = number(&remedy["frees_bytes"]);
            assert!(number == 0 || command(&remedy).last() == Some(&"--unmount"), "{remedy:#}");
        }
    }
}

/// Has bash read a line, in an empty directory.
fn pasted(line: &str, words: &[&str]) {
    let directory = crate::support::temp_dir();
    let script = format!("printf '%s\\0' {line}");
    let read = Command::new("bash").args(["-c", &script]).current_dir(directory.path()).output().unwrap();
    let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    assert_eq!(read.stdout, expected, "{line}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{line}");
}
