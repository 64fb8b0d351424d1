// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loop devices that go when nobody has them open any more.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

/// include/uapi/linux/loop.h.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Mirrors `struct loop_config`, with the flags of `struct loop_info64` in it.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info_before_flags: [u32; 13],
    flags: u32,
    info_behind_flags: [u64; 24],
    reserved: [u64; 8],
}

/// A loop device, kept by this descriptor and by what is mounted from it: it goes with the test,
/// however that ends.
pub(crate) struct LoopDevice {
    node: PathBuf,
    _device: File,
}

impl LoopDevice {
    pub(crate) fn on(file: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").unwrap();
        let config = Config {
            fd: file.as_raw_fd().cast_unsigned(),
            block_size: 0,
            info_before_flags: [0; 13],
            flags: LO_FLAGS_AUTOCLEAR,
            info_behind_flags: [0; 24],
            reserved: [0; 8],
        };
        loop {
            // SAFETY: takes no argument and returns a number.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            let node = PathBuf::from(format!("/dev/loop{}", Errno::result(number).unwrap()));
            let device = OpenOptions::new().read(true).write(true).open(&node).unwrap();
            // SAFETY: reads one `struct loop_config`.
            let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
            match Errno::result(done) {
                // Another test was faster.
                Err(Errno::EBUSY) => {}
                done => {
                    done.unwrap();
                    return Self { node, _device: device };
                }
            }
        }
    }

    /// `/dev/loop3`
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }
}
