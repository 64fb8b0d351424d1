// SPDX-License-Identifier: MIT OR Apache-2.0

//! Swap files whose name is gone. No file that is in use as swap can lose its name; before Linux 5.15 it
//! could while swapon(2) was just taking it (`vfs_unlink` in fs/namei.c and `swapon` in mm/swapfile.c have
//! closed that).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Claim;
use crate::model::bytes::Bytes;
use crate::model::deleted::{KernelHolder, KernelVia};
use crate::mounts::mountinfo::unescape;

/// All in the list that `proc` has. It shows no inode, so the name has to do, and the size.
pub(super) fn read(proc: &Path) -> Vec<Claim> {
    let list = fs::read(proc.join("swaps")).unwrap_or_default();
    list.split(|&byte| byte == b'\n').filter_map(deleted).collect()
}

/// `/path\040(deleted)  file  8188  0  -2`: `swap_show` (mm/swapfile.c). The size is in KiB, without the
/// page that says that it is swap.
fn deleted(line: &[u8]) -> Option<Claim> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let name = unescape(fields.next()?);
    let path = Path::new(OsStr::from_bytes(name.strip_suffix(b" (deleted)")?));
    let kib: u64 = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
    let hold = KernelHolder::new(KernelVia::Swap, path.to_string_lossy().into_owned());
    let longer_than = Bytes(kib.saturating_mul(1024));
    Some(Claim { longer_than, ..Claim::deleted(path.to_owned(), hold) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_lost_its_name() {
        let claim = |line: &str| {
            deleted(line.as_bytes()).map(|claim| (claim.path.to_str().unwrap().to_owned(), claim.longer_than))
        };
        assert_eq!(claim("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"), None);
        assert_eq!(claim("/swapfile                               file\t\t8188\t\t0\t\t-2"), None);
        assert_eq!(claim("/dev/dm-1                               partition\t8188\t\t0\t\t-2"), None);
        assert_eq!(
            claim(r"/a\040b\040(deleted)                     file		8188		0		-2"),
            Some(("/a b".to_owned(), Bytes(8188 << 10)))
        );
        assert_eq!(claim(r"/swapfile\040(deleted) file"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..128)) {
            deleted(&bytes);
        }
    }
}
