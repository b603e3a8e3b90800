//! The kernel's own calls, around everything that this crate defines: its I/O must not come back to it.
//!
//! System calls rather than `dlsym(RTLD_NEXT)`: they need no symbol looked up at a moment when the process may not allocate, work before
//! the first constructor has run, and are the same whether this crate came by `LD_PRELOAD` or was linked in.

#![allow(unsafe_code)] // System calls.

use std::ffi::CStr;
use std::io;

use libc::{c_int, c_void};

pub fn errno() -> c_int {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() }
}

pub fn set_errno(code: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = code }
}

/// Sets `errno` and gives what a failed call returns.
pub fn fail(code: c_int) -> isize {
    set_errno(code);
    -1
}

pub fn open(path: &CStr, flags: c_int) -> io::Result<Fd> {
    // SAFETY: the path ends with a zero.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0o644) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Fd(fd as c_int)) }
}

/// Closed when dropped.
pub struct Fd(pub c_int);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: ours, and closed once.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// Type, size and identity of an open file.
pub fn fstat(fd: c_int) -> Option<libc::stat> {
    // SAFETY: the kernel fills the structure.
    unsafe {
        let mut stat = std::mem::zeroed::<libc::stat>();
        (libc::fstat(fd, &mut stat) == 0).then_some(stat)
    }
}

/// As [`fstat`], by path and without following a link.
pub fn lstat(path: &CStr) -> Option<libc::stat> {
    // SAFETY: the path ends with a zero and the kernel fills the structure.
    unsafe {
        let mut stat = std::mem::zeroed::<libc::stat>();
        (libc::lstat(path.as_ptr(), &mut stat) == 0).then_some(stat)
    }
}

pub fn position(fd: c_int) -> i64 {
    // SAFETY: no memory is touched.
    unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) }
}

/// As much of the range as the file has.
pub fn read_range(fd: c_int, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; length as usize];
    let mut read = 0;
    while read < bytes.len() {
        // SAFETY: the slice has that many bytes.
        let n = unsafe {
            let rest = &mut bytes[read..];
            libc::syscall(libc::SYS_pread64, fd, rest.as_mut_ptr().cast::<c_void>(), rest.len(), from + read as u64)
        };
        match n {
            0 => break,
            n if n < 0 && errno() == libc::EINTR => {}
            n if n < 0 => return Err(io::Error::last_os_error()),
            n => read += n as usize,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes all of it at the file's position.
pub fn write_all(fd: c_int, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the slice has that many bytes.
        let n = unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
        match n {
            n if n < 0 && errno() == libc::EINTR => {}
            n if n < 0 => return Err(io::Error::last_os_error()),
            n => bytes = &bytes[n as usize..],
        }
    }
    Ok(())
}

pub fn link(from: &CStr, to: &CStr) -> bool {
    // SAFETY: both paths end with a zero.
    unsafe {
        libc::syscall(libc::SYS_linkat, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), 0 as c_int) == 0
    }
}

pub fn unlink(path: &CStr) {
    // SAFETY: the path ends with a zero.
    unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0 as c_int) };
}

pub fn sleep_us(us: u64) {
    let time = libc::timespec { tv_sec: (us / 1_000_000) as i64, tv_nsec: (us % 1_000_000 * 1000) as i64 };
    // SAFETY: the structure outlives the call. The system call, because a faked clock must not stretch it.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, std::ptr::null_mut::<libc::timespec>()) };
}

/// The path of an open file, as the kernel has it.
pub fn path_of(fd: c_int) -> Option<Vec<u8>> {
    let mut link = [0u8; 32];
    io::Write::write_fmt(&mut &mut link[..31], format_args!("/proc/self/fd/{fd}")).ok()?;
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the name ends with a zero and the buffer has that many bytes.
    let n =
        unsafe { libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, link.as_ptr(), path.as_mut_ptr(), path.len()) };
    (n > 0).then(|| path[..n as usize].to_vec())
}

/// The working directory.
pub fn working_directory() -> Option<Vec<u8>> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer has that many bytes.
    let n = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    // The kernel counts the closing zero.
    (n > 1).then(|| path[..n as usize - 1].to_vec())
}
