// SPDX-License-Identifier: MIT OR Apache-2.0

//! A FUSE filesystem with one directory in memory, of the kind that knows neither files without names nor
//! links nor `renameat2(2)`, and takes names that differ only in case for the same: like FAT.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::mount::{MntFlags, umount2};

use super::fuse::{
    BATCH_FORGET, FORGET, GETATTR, INIT, INTERRUPT, LOOKUP, OPEN, OPENDIR, READ, READDIR, RELEASE,
    RELEASEDIR, STATFS, UNLINK, connect, init, statfs, u32_at, u64_at, words,
};

/// Request numbers of the FUSE protocol that only this server answers.
const SETATTR: u32 = 4;
const RENAME: u32 = 12;
const WRITE: u32 = 16;
const CREATE: u32 = 35;

/// The directory.
const ROOT: u64 = 1;

/// A mounted one.
pub(crate) struct FlatFuse {
    mountpoint: PathBuf,
    written: Receiver<()>,
}

impl FlatFuse {
    pub(crate) fn new(at: &Path) -> Self {
        let (sender, written) = channel();
        let mut server = Server { connection: connect(at), files: Vec::new(), written: sender };
        thread::spawn(move || server.serve());
        Self { mountpoint: at.to_owned(), written }
    }

    /// Waits until somebody has written something.
    pub(crate) fn wait_until_written(&self) {
        self.written.recv_timeout(Duration::from_mins(1)).expect("somebody writes");
    }
}

impl Drop for FlatFuse {
    fn drop(&mut self) {
        // The server reads the end of the connection then.
        let _ = umount2(&self.mountpoint, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}

/// Its number is its place among all that there ever were.
struct Node {
    name: Option<Vec<u8>>,
    data: Vec<u8>,
    mode: u32,
}

struct Server {
    connection: File,
    files: Vec<Node>,
    written: Sender<()>,
}

impl Server {
    fn serve(&mut self) {
        let mut request = vec![0; 256 << 10];
        while let Ok(length) = self.connection.read(&mut request) {
            let request = &request[..length];
            if matches!(u32_at(request, 4), FORGET | BATCH_FORGET | INTERRUPT) {
                continue;
            }
            let (error, body) = match self.answer(request) {
                Ok(body) => (0, body),
                Err(code) => (-code, vec![]),
            };
            let mut reply = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
            reply.extend(error.to_ne_bytes());
            reply.extend(&request[8..16]);
            reply.extend(body);
            // The asker may have gone in the meantime.
            drop(self.connection.write_all(&reply));
        }
    }

    fn answer(&mut self, request: &[u8]) -> Result<Vec<u8>, i32> {
        let (code, node, rest) = (u32_at(request, 4), u64_at(request, 16), &request[40..]);
        match code {
            INIT => Ok(init()),
            STATFS => Ok(statfs()),
            OPEN | OPENDIR => Ok(words(&[0, 0])),
            GETATTR => Ok([words(&[0, 0]), self.attributes(node)].concat()),
            LOOKUP => self.find(name(rest)).map(|node| self.entry(node)).ok_or(libc::ENOENT),
            UNLINK => {
                let node = self.find(name(rest)).ok_or(libc::ENOENT)?;
                self.file(node).name = None;
                Ok(vec![])
            }
            RENAME => {
                let (from, to) = (name(&rest[8..]), name(&rest[8 + name(&rest[8..]).len() + 1..]));
                let node = self.find(from).ok_or(libc::ENOENT)?;
                if let Some(replaced) = self.find(to).filter(|replaced| *replaced != node) {
                    self.file(replaced).name = None;
                }
                self.file(node).name = Some(to.to_vec());
                Ok(vec![])
            }
            CREATE => {
                let mode = u32_at(rest, 4) & 0o7777;
                self.files.push(Node { name: Some(name(&rest[16..]).to_vec()), data: vec![], mode });
                let node = ROOT + self.files.len() as u64;
                Ok([self.entry(node), words(&[0, 0])].concat())
            }
            SETATTR => {
                let (valid, size, mode) = (u32_at(rest, 0), u64_at(rest, 16), u32_at(rest, 68));
                if valid & 1 != 0 {
                    self.file(node).mode = mode & 0o7777;
                }
                if valid & 8 != 0 {
                    self.file(node).data.resize(usize::try_from(size).unwrap(), 0);
                }
                Ok([words(&[0, 0]), self.attributes(node)].concat())
            }
            WRITE => {
                let (at, size) = (usize::try_from(u64_at(rest, 8)).unwrap(), u32_at(rest, 16));
                let data = &rest[40..];
                let file = self.file(node);
                file.data.resize(file.data.len().max(at + data.len()), 0);
                file.data[at..at + data.len()].copy_from_slice(data);
                let _ = self.written.send(());
                Ok(words(&[size.into()]))
            }
            READ => {
                let (at, size) = (usize::try_from(u64_at(rest, 8)).unwrap(), u32_at(rest, 16) as usize);
                let data = self.file(node).data.get(at..).unwrap_or_default();
                Ok(data[..size.min(data.len())].to_vec())
            }
            READDIR if u64_at(rest, 8) == 0 => Ok(self.list()),
            READDIR | RELEASE | RELEASEDIR => Ok(vec![]),
            _ => Err(libc::ENOSYS),
        }
    }

    fn file(&mut self, node: u64) -> &mut Node {
        &mut self.files[usize::try_from(node - ROOT - 1).unwrap()]
    }

    fn find(&self, name: &[u8]) -> Option<u64> {
        let is_it = |node: &Node| node.name.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(name));
        self.files.iter().position(is_it).map(|index| ROOT + 1 + index as u64)
    }

    fn entry(&self, node: u64) -> Vec<u8> {
        [words(&[node, 0, 0, 0, 0]), self.attributes(node)].concat()
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (size, mode) = if node == ROOT {
            (0, libc::S_IFDIR | 0o755)
        } else {
            let file = &self.files[usize::try_from(node - ROOT - 1).unwrap()];
            (file.data.len() as u64, libc::S_IFREG | file.mode)
        };
        let mut bytes = words(&[node, size, size.div_ceil(512), 0, 0, 0]);
        for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    fn list(&self) -> Vec<u8> {
        let mut entries = vec![];
        let names = self.files.iter().filter_map(|file| file.name.as_ref());
        for (index, name) in names.enumerate() {
            entries.extend(words(&[1000 + index as u64, 1 + index as u64]));
            entries.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
            entries.extend(u32::from(libc::DT_REG).to_ne_bytes());
            entries.extend(name);
            entries.resize(entries.len().next_multiple_of(8), 0);
        }
        entries
    }
}

/// Up to the NUL.
fn name(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}
