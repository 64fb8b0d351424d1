// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a report says would free space: every command is carried out, and does.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::filesystem::{Filesystem, bind};
use crate::support::held::{Held, mount_erofs};
use crate::support::holder::Holder;
use crate::support::kernel::{Namespace, file};
use crate::support::programs::{in_control_group, install};
use crate::support::report::{holder_of, list, number, only, report};
use crate::support::{KIB, MIB};

/// The only remedy of that kind.
fn remedy(fs: &Filesystem, action: &str) -> Value {
    let report = report(fs.path());
    let all = list(&only(&report)["remedies"]);
    let found: Vec<_> = all.iter().filter(|remedy| remedy["action"] == action).collect();
    assert_eq!(found.len(), 1, "{action}: {:#}", only(&report)["remedies"]);
    found[0].clone()
}

fn command(remedy: &Value) -> Vec<String> {
    list(&remedy["command"]).iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Does what the command says.
fn carry_out(command: &[String]) {
    let program = match command[0].as_str() {
        "whyfull" => env!("CARGO_BIN_EXE_whyfull"),
        other => other,
    };
    // Nobody is there to be asked.
    let yes = (command.get(1).map(String::as_str) == Some("release")).then_some("--yes");
    let output = Command::new(program).args(&command[1..]).args(yes).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Waits for what was promised: who looks at a device meanwhile keeps it for as long.
fn comes_free(fs: &Filesystem, before: u64, remedy: &Value) {
    let freed = || i128::from(before) - i128::from(fs.used());
    let mut patience = 500;
    while freed() != number(&remedy["frees_bytes"]) && patience > 0 {
        std::thread::sleep(Duration::from_millis(10));
        patience -= 1;
    }
    assert_eq!(freed(), number(&remedy["frees_bytes"]), "{remedy:#}");
}

/// Carries it out, which gives back what was promised.
fn frees(fs: &Filesystem, action: &str) -> Vec<String> {
    let remedy = remedy(fs, action);
    let command = command(&remedy);
    let before = fs.used();
    carry_out(&command);
    comes_free(fs, before, &remedy);
    command
}

#[test]
fn a_log_is_reopened() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let daemon = install(&fs, "rsyslogd");
    let holder = Holder::start_program(&daemon, "log", &fs.path().join("log"), false);
    let report = report(fs.path());
    let by = &holder_of(only(&report), holder.inode())["held_by"][0];
    if !by["container"].is_null() || by["unit"].as_str().is_some_and(|unit| unit.ends_with(".service")) {
        // What the tests run in is not to be signalled.
        return;
    }
    let remedy = remedy(&fs, "reopen_logs");
    assert_eq!(command(&remedy), ["kill", "-HUP", &holder.pid().to_string()]);
    assert_eq!((&remedy["loses_data"], number(&remedy["frees_bytes"])), (&Value::Bool(false), MIB.into()));
    let before = fs.used();
    carry_out(&command(&remedy));
    comes_free(&fs, before, &remedy);
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Where a process seems to run, and the command that makes it let go. What manages services and
/// containers is not at hand: a program in its place notes what it is called with, and sends the signal.
#[test]
fn services_and_containers() {
    require_root!();
    let docker = format!("/system.slice/docker-{ID}.scope");
    let podman = format!("/machine.slice/libpod-{ID}.scope/container");
    let pod = "kubepods-burstable-pod12345678_1234_1234_1234_123456789abc.slice";
    let pod = format!("/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{ID}.scope");
    let service = "/system.slice/whyfull-test.service";
    let cases: [(&str, &str, &str, &str, &[&str]); 5] = [
        // docker-restart(1): docker restart [OPTIONS] CONTAINER [CONTAINER...]
        (&docker, "fd", "restart_container", "KILL", &["docker", "restart", "0123456789ab"]),
        // podman-restart(1): podman restart [options] container ...; an ID may be a part of one.
        (&podman, "fd", "restart_container", "KILL", &["podman", "restart", "0123456789ab"]),
        // cri-tools, docs/crictl.md: crictl command [arguments...], with "stop" for one or more running
        // containers. The kubelet starts it anew.
        (&pod, "fd", "restart_container", "KILL", &["crictl", "stop", "0123456789ab"]),
        // systemctl(1): restart PATTERN...
        (service, "fd", "restart_unit", "KILL", &["systemctl", "restart", "whyfull-test.service"]),
        // systemctl(1): kill PATTERN..., with --kill-who= (since 252 --kill-whom=, which may be cut short)
        // and --signal=.
        (
            service,
            "log",
            "reopen_logs",
            "HUP",
            &["systemctl", "kill", "--kill-who=main", "--signal=HUP", "whyfull-test.service"],
        ),
    ];
    let layer = Filesystem::tmpfs(MIB);
    let daemon = install(&layer, "rsyslogd");
    for (group, situation, action, signal, words) in cases {
        let fs = Filesystem::ext4(64 * MIB);
        let holder = Holder::start_program(&daemon, situation, &fs.path().join("file"), false);
        in_control_group(&fs, holder.pid(), group);
        let (remedy, before) = (remedy(&fs, action), fs.used());
        assert_eq!(command(&remedy), words);
        let programs = fs.beside("programs");
        let program = programs.join(words[0]);
        let note = format!("printf '%s\\n' \"$@\" > {}/noted", programs.display());
        fs::write(&program, format!("#!/bin/sh\n{note}\nkill -{signal} {}\n", holder.pid())).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let done = Command::new("env").env("PATH", path).args(command(&remedy)).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let noted = fs::read_to_string(programs.join("noted")).unwrap();
        assert_eq!(noted.lines().collect::<Vec<_>>(), words[1..]);
        comes_free(&fs, before, &remedy);
    }
}

#[test]
fn a_copy_is_kept_and_the_file_released() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let _holder = Holder::start("append", &fs.path().join("log"));
    let copy = remedy(&fs, "recover");
    let destination = fs.beside("copies").join("copy");
    let mut words = command(&copy);
    assert_eq!(words.pop().as_deref(), Some("DEST"));
    words.push(destination.to_str().unwrap().to_owned());
    carry_out(&words);
    assert_eq!(destination.metadata().unwrap().len(), MIB);
    let release = remedy(&fs, "release");
    assert_eq!((&release["inode"], &release["group"]), (&copy["inode"], &copy["group"]));
    let before = fs.used();
    carry_out(&command(&release));
    assert_eq!(i128::from(before - fs.used()), number(&release["frees_bytes"]));
}

/// A loop device that stays without anybody who has it open.
struct Attached(PathBuf);

impl Drop for Attached {
    fn drop(&mut self) {
        // Gone already, where all went well.
        drop(Command::new("losetup").arg("-d").arg(&self.0).output());
    }
}

#[test]
fn a_loop_device_is_detached() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs()] {
        let image = fs.path().join("image");
        file(&image, MIB);
        let said = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().unwrap();
        let device = PathBuf::from(String::from_utf8(said.stdout).unwrap().trim());
        assert!(device.starts_with("/dev"), "{device:?}");
        let device = Attached(device);
        fs::remove_file(&image).unwrap();
        // A copy by number, before it is gone.
        let mut words = command(&remedy(&fs, "recover"));
        words.pop();
        let copy = fs.beside("copies").join("copy");
        words.push(copy.to_str().unwrap().to_owned());
        carry_out(&words);
        assert_eq!(copy.metadata().unwrap().len(), MIB);
        let done = frees(&fs, "detach_loop");
        assert_eq!(done, ["losetup", "-d", device.0.to_str().unwrap()]);
    }
}

/// By whyfull itself, wherever the mount is.
fn unmount(fs: &Filesystem, inode: u64) -> Vec<String> {
    let (what, filesystem) = (format!("inode:{inode}"), path_text(fs.path()));
    ["whyfull", "release", &what, "--filesystem", filesystem, "--unmount"].map(str::to_owned).to_vec()
}

#[test]
fn a_mount_is_unmounted() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::tmpfs(MIB)] {
        let (path, at) = (fs.path().join("file"), fs.beside("a point").join("x"));
        let inode = file(&path, 64 * KIB);
        File::create(&at).unwrap();
        bind(&path, &at);
        fs::remove_file(&path).unwrap();
        assert_eq!(frees(&fs, "unmount"), unmount(&fs, inode));
    }
}

#[test]
fn a_mount_in_another_namespace_is_unmounted_there() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (path, point) = (fs.path().join("file"), fs.beside("at").join("x"));
    let inode = file(&path, 64 * KIB);
    File::create(&point).unwrap();
    let namespaces =
        [(); 2].map(|()| Namespace::new(&["--mount"], r#"mount --bind "$1" "$2""#, &[&path, &point]));
    fs::remove_file(&path).unwrap();
    assert_eq!(frees(&fs, "unmount"), unmount(&fs, inode));
    drop(namespaces);
}

/// Nothing keeps the namespace but a descriptor of somebody who is not in it.
#[test]
fn a_mount_in_a_namespace_without_a_process_is_unmounted() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let held = Held::by_namespace_without_process(&fs);
    assert_eq!(frees(&fs, "unmount"), unmount(&fs, held.inode));
}

/// A directory has blocks of its own.
#[test]
fn a_mounted_directory_is_unmounted() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (directory, at) = (fs.path().join("directory"), fs.beside("at"));
    fs::create_dir(&directory).unwrap();
    let inode = directory.metadata().unwrap().ino();
    bind(&directory, &at);
    fs::remove_dir(&directory).unwrap();
    assert_eq!(frees(&fs, "unmount"), unmount(&fs, inode));
}

/// Mounted without any loop device, Linux 6.12; not to be unmounted where another mount lies over it.
#[test]
fn a_mounted_image_is_unmounted() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (image, at) = mount_erofs(&fs);
    let inode = image.metadata().unwrap().ino();
    fs::remove_file(&image).unwrap();
    bind(&fs.beside("cover"), &at);
    let covered = report(fs.path());
    assert_eq!(list(&only(&covered)["deleted"][0]["held_by"]).len(), 1, "{covered:#}");
    assert_eq!(list(&only(&covered)["remedies"]).len(), 0, "{covered:#}");
    nix::mount::umount(&at).unwrap();
    assert_eq!(frees(&fs, "unmount"), unmount(&fs, inode));
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
