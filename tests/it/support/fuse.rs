// SPDX-License-Identifier: MIT OR Apache-2.0

//! FUSE filesystems made by hand: one that never answers, and one whose tree has
//! no end, so that a walk of it is always in the middle, and which answers everything but a read of a file.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout};

/// Request numbers of the FUSE protocol.
pub(super) const LOOKUP: u32 = 1;
pub(super) const FORGET: u32 = 2;
pub(super) const GETATTR: u32 = 3;
pub(super) const UNLINK: u32 = 10;
pub(super) const OPEN: u32 = 14;
pub(super) const READ: u32 = 15;
pub(super) const STATFS: u32 = 17;
pub(super) const RELEASE: u32 = 18;
pub(super) const INIT: u32 = 26;
pub(super) const OPENDIR: u32 = 27;
pub(super) const READDIR: u32 = 28;
pub(super) const RELEASEDIR: u32 = 29;
pub(super) const INTERRUPT: u32 = 36;
pub(super) const BATCH_FORGET: u32 = 42;

/// Four directories and four files in each directory down to this depth: 4^12
/// directories are more than any test waits for.
const DEPTH: u64 = 12;
const FANOUT: u64 = 4;

/// A mounted FUSE filesystem; its end of the connection closes with it.
pub(crate) struct Fuse {
    mountpoint: PathBuf,
    connection: Option<File>,
    server: Option<Handle>,
}

/// What a server says of its filesystem.
#[derive(Clone, Copy)]
pub(crate) struct Claims {
    /// Down to which depth there are directories.
    pub(crate) deepest: u64,
    /// `f_blocks`, `f_bfree`, `f_bavail`, `f_files`, `f_ffree`.
    pub(crate) counters: [u64; 5],
    /// `f_frsize`.
    pub(crate) unit: u32,
    /// `st_size` and `st_blocks` of everything in it.
    pub(crate) size: u64,
    pub(crate) blocks: u64,
}

impl Default for Claims {
    fn default() -> Self {
        let counters = [1 << 20, 1 << 18, 1 << 18, 1 << 20, 1 << 19];
        Self { deepest: 1, counters, unit: 4096, size: 4096, blocks: 8 }
    }
}

/// The other side of a server's thread.
struct Handle {
    walked: Receiver<()>,
    swallowing: Arc<AtomicBool>,
    /// Closed, it makes the server stop.
    running: PipeWriter,
    thread: JoinHandle<()>,
}

impl Fuse {
    /// Does not even answer the kernel's first request.
    pub(crate) fn dead(at: &Path) -> Self {
        Self { mountpoint: at.to_owned(), connection: Some(connect(at)), server: None }
    }

    /// A tree without an end.
    pub(crate) fn endless(at: &Path) -> Self {
        // 4 GiB in blocks of 4096 bytes, a quarter of them free.
        Self::claiming(at, Claims { deepest: DEPTH, ..Claims::default() })
    }

    /// A tree that says of itself what is given.
    pub(crate) fn claiming(at: &Path, claims: Claims) -> Self {
        let connection = connect(at);
        let (stop, running) = std::io::pipe().unwrap();
        let (sender, walked) = channel();
        let swallowing = Arc::new(AtomicBool::new(false));
        let mut server = Server {
            connection: connection.try_clone().unwrap(),
            stop,
            swallowing: Arc::clone(&swallowing),
            walked: sender,
            nodes: 1,
            links: 1,
            claims,
        };
        let thread = thread::spawn(move || server.serve());
        Self {
            mountpoint: at.to_owned(),
            connection: Some(connection),
            server: Some(Handle { walked, swallowing, running, thread }),
        }
    }

    /// Waits until somebody has listed so many of the directories.
    pub(crate) fn wait_until_walked(&self, directories: usize) {
        for _ in 0..directories {
            let listed = &self.server.as_ref().unwrap().walked;
            let listed = listed.recv_timeout(Duration::from_mins(1));
            listed.expect("somebody walks the tree");
        }
    }

    /// From now on requests are not even taken: who waits can still be killed.
    pub(crate) fn stall(&mut self) {
        let server = self.server.take().unwrap();
        drop(server.running);
        server.thread.join().unwrap();
    }

    /// From now on requests are taken and never answered: who waits for one cannot
    /// even be killed until this guard ends the connection.
    pub(crate) fn swallow(&self) {
        let server = self.server.as_ref().unwrap();
        server.swallowing.store(true, Ordering::SeqCst);
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // MNT_FORCE ends the connection: whoever waits for an answer gets an error.
        let _ = umount2(&self.mountpoint, MntFlags::MNT_FORCE);
        self.connection = None;
        let _ = umount2(&self.mountpoint, MntFlags::MNT_DETACH);
    }
}

pub(super) fn connect(at: &Path) -> File {
    let connection = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", connection.as_raw_fd());
    mount(
        Some("whyfull-test"),
        at,
        Some("fuse"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )
    .unwrap();
    connection
}

struct Server {
    connection: File,
    stop: PipeReader,
    swallowing: Arc<AtomicBool>,
    walked: Sender<()>,
    /// How many inodes were given out; a node's number carries its depth.
    nodes: u64,
    /// How many names each file has.
    links: u32,
    claims: Claims,
}

impl Server {
    /// Waits for a request; none comes after the guard has said so.
    fn asked(&self) -> bool {
        let mut ready = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.connection.as_fd(), PollFlags::POLLIN),
        ];
        nix::poll::poll(&mut ready, PollTimeout::NONE).unwrap();
        ready[0].any() == Some(false)
    }

    /// Until it is told to stop or the filesystem is unmounted.
    fn serve(&mut self) {
        let mut request = vec![0; 256 << 10];
        while self.asked() {
            let Ok(length) = self.connection.read(&mut request) else {
                return;
            };
            if self.swallowing.load(Ordering::SeqCst) {
                continue;
            }
            let request = &request[..length];
            let (code, node) = (u32_at(request, 4), u64_at(request, 16));
            let answer = match code {
                FORGET | BATCH_FORGET | INTERRUPT | READ => continue,
                INIT => Ok(init()),
                STATFS => Ok(self.claims.statfs()),
                GETATTR => Ok([words(&[0, 0]), self.attributes(node)].concat()),
                UNLINK => {
                    self.links = 0;
                    Ok(vec![])
                }
                LOOKUP => Ok(self.lookup(node, &request[40..])),
                OPEN | OPENDIR => Ok(words(&[0, 0])),
                READDIR => Ok(self.list(node, u64_at(request, 48))),
                RELEASE | RELEASEDIR => Ok(vec![]),
                _ => Err(libc::ENOSYS),
            };
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(code) => (-code, vec![]),
            };
            let length = u32::try_from(16 + body.len()).unwrap();
            let mut reply = length.to_ne_bytes().to_vec();
            reply.extend(error.to_ne_bytes());
            reply.extend(&request[8..16]);
            reply.extend(body);
            // The asker may have gone in the meantime.
            drop(self.connection.write_all(&reply));
        }
    }

    fn lookup(&mut self, parent: u64, name: &[u8]) -> Vec<u8> {
        self.nodes += 1;
        let node = self.nodes << 8 | if name[0] == b'd' { depth(parent) + 1 } else { 255 };
        // The name may be remembered; attributes must be asked for every time.
        let entry = words(&[node, 0, 3600, 0, 0]);
        [entry, self.attributes(node)].concat()
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let directory = depth(node) <= self.claims.deepest;
        let mode: u32 = if directory { 0o040_755 } else { 0o100_644 };
        let links: u32 = if directory { 2 } else { self.links };
        let mut bytes = words(&[node, self.claims.size, self.claims.blocks, 0, 0, 0]);
        for word in [0, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    fn list(&self, node: u64, offset: u64) -> Vec<u8> {
        if offset > 0 {
            return vec![];
        }
        let _ = self.walked.send(());
        let mut entries = vec![];
        let directories = if depth(node) < self.claims.deepest { FANOUT } else { 0 };
        for index in 0..directories + FANOUT {
            let (letter, kind) = if index < directories { ('d', libc::DT_DIR) } else { ('f', libc::DT_REG) };
            let name = format!("{letter}{index}");
            entries.extend(words(&[index + 1000, index + 1]));
            entries.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
            entries.extend(u32::from(kind).to_ne_bytes());
            entries.extend(name.as_bytes());
            entries.resize(entries.len().next_multiple_of(8), 0);
        }
        entries
    }
}

impl Claims {
    fn statfs(&self) -> Vec<u8> {
        let mut bytes = words(&self.counters);
        for word in [self.unit, 255, self.unit] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.resize(80, 0);
        bytes
    }
}

/// The root is node 1, at depth 0; files are marked with 255.
fn depth(node: u64) -> u64 {
    if node == 1 { 0 } else { node & 255 }
}

pub(super) fn init() -> Vec<u8> {
    let mut bytes = vec![];
    for word in [7_u32, 31, 0, 0, 0, 4096, 1] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.resize(64, 0);
    bytes
}

pub(super) fn statfs() -> Vec<u8> {
    Claims::default().statfs()
}

pub(super) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
