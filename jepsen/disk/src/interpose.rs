//! The C library's file calls, defined anew: each asks the registry whether it concerns a watched file, and else goes to the kernel.
//!
//! The names that take a variable argument list (`open`) have a fixed one here: on the architectures that Stanchion is built for, both
//! pass an integer in the same register. Names with `64` are the same calls, because `off_t` has 64 bits there.
//!
//! Never: returns another code, sets another `errno` or writes another byte than the kernel would, unless told to by a fault.
//! Called by everything in the process.

#![allow(unsafe_code)]
// Definitions of the C library's functions.
// A caller of these keeps the C library's contract: paths end with a zero, buffers have the bytes they are said to have.
#![allow(clippy::missing_safety_doc)]

use std::ffi::CStr;

use libc::{c_char, c_int, c_uint, c_void, iovec, mode_t, off_t, size_t, ssize_t};

use crate::raw;
use crate::registry::{self, closing, open_file, place, sync_other};

const _: () = assert!(size_of::<off_t>() == 8, "the 64-bit names below would be other calls");

/// Refers to every definition of this module, so that a linker that takes one takes all.
pub(crate) fn link_in() {
    let all: [*const (); 34] = [
        write as _,
        pwrite as _,
        pwrite64 as _,
        writev as _,
        pwritev as _,
        pwritev64 as _,
        fsync as _,
        fdatasync as _,
        sync_file_range as _,
        ftruncate as _,
        ftruncate64 as _,
        fallocate as _,
        fallocate64 as _,
        posix_fallocate as _,
        posix_fallocate64 as _,
        open as _,
        open64 as _,
        openat as _,
        openat64 as _,
        __open_2 as _,
        __open64_2 as _,
        creat as _,
        creat64 as _,
        close as _,
        rename as _,
        renameat as _,
        renameat2 as _,
        unlink as _,
        unlinkat as _,
        rmdir as _,
        mkdir as _,
        mkdirat as _,
        link as _,
        linkat as _,
    ];
    std::hint::black_box(all);
}

/// What `syscall` gave, as the C library's functions return it.
macro_rules! kernel {
    ($($argument:expr),+ $(,)?) => {
        // SAFETY: the arguments are the caller's own, passed on as they are.
        unsafe { libc::syscall($($argument),+) as isize }
    };
}

fn path<'a>(path: *const c_char) -> Option<&'a CStr> {
    // SAFETY: by contract the path ends with a zero; it is read during the call only.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}

fn place_of(directory: c_int, name: *const c_char) -> Option<registry::Place> {
    path(name).and_then(|name| place(directory, name))
}

// --- writes ------------------------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    let write = |count: usize| kernel!(libc::SYS_write, fd, bytes, count);
    match open_file(fd) {
        Some(file) => file.write(fd, count as u64, None, write),
        None => write(count),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    let write = |count: usize| kernel!(libc::SYS_pwrite64, fd, bytes, count, at);
    match open_file(fd) {
        Some(file) => file.write(fd, count as u64, Some(at), write),
        None => write(count),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    // SAFETY: the same call.
    unsafe { pwrite(fd, bytes, count, at) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    match open_file(fd) {
        Some(file) => {
            let (parts, total) = unsafe { gather(parts, count) };
            file.write(fd, total, None, |limit| {
                let parts = within(parts, limit);
                kernel!(libc::SYS_writev, fd, parts.as_ptr(), parts.len())
            })
        }
        None => kernel!(libc::SYS_writev, fd, parts, count),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
    // The kernel takes the offset in two halves; on 64 bits the lower one holds all.
    match open_file(fd) {
        Some(file) => {
            let (parts, total) = unsafe { gather(parts, count) };
            file.write(fd, total, Some(at), |limit| {
                let parts = within(parts, limit);
                kernel!(libc::SYS_pwritev, fd, parts.as_ptr(), parts.len(), at, 0usize)
            })
        }
        None => kernel!(libc::SYS_pwritev, fd, parts, count, at, 0usize),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
    // SAFETY: the same call.
    unsafe { pwritev(fd, parts, count, at) }
}

/// The parts of a vectored write, and their bytes together.
unsafe fn gather<'a>(parts: *const iovec, count: c_int) -> (&'a [iovec], u64) {
    let count = usize::try_from(count).unwrap_or(0);
    if parts.is_null() || count == 0 {
        return (&[], 0);
    }
    // SAFETY: by contract there are so many.
    let parts = unsafe { std::slice::from_raw_parts(parts, count) };
    (parts, parts.iter().map(|part| part.iov_len as u64).sum())
}

/// The first `limit` bytes of them.
fn within(parts: &[iovec], limit: usize) -> Vec<iovec> {
    let mut left = limit;
    let mut taken = Vec::with_capacity(parts.len());
    for part in parts {
        let bytes = part.iov_len.min(left);
        taken.push(iovec { iov_base: part.iov_base, iov_len: bytes });
        left -= bytes;
    }
    taken
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    let truncate = || kernel!(libc::SYS_ftruncate, fd, length);
    match open_file(fd) {
        Some(file) => file.truncate(fd, length as u64, truncate) as c_int,
        None => truncate() as c_int,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    // SAFETY: the same call.
    unsafe { ftruncate(fd, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, at: off_t, length: off_t) -> c_int {
    let allocate = || kernel!(libc::SYS_fallocate, fd, mode, at, length);
    match open_file(fd) {
        Some(file) => file.allocate(fd, (at + length) as u64, allocate) as c_int,
        None => allocate() as c_int,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, at: off_t, length: off_t) -> c_int {
    // SAFETY: the same call.
    unsafe { fallocate(fd, mode, at, length) }
}

/// Gives the error and does not set it, as POSIX has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate(fd: c_int, at: off_t, length: off_t) -> c_int {
    let before = raw::errno();
    // SAFETY: the same call.
    let code = if unsafe { fallocate(fd, 0, at, length) } == 0 { 0 } else { raw::errno() };
    raw::set_errno(before);
    code
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate64(fd: c_int, at: off_t, length: off_t) -> c_int {
    // SAFETY: the same call.
    unsafe { posix_fallocate(fd, at, length) }
}

// --- syncs -------------------------------------------------------------------------------------------------------------------

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let sync = || kernel!(libc::SYS_fsync, fd);
    match open_file(fd) {
        Some(file) => file.sync(fd, sync) as c_int,
        None => sync_other(fd, sync) as c_int,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    let sync = || kernel!(libc::SYS_fdatasync, fd);
    match open_file(fd) {
        Some(file) => file.sync(fd, sync) as c_int,
        None => sync_other(fd, sync) as c_int,
    }
}

/// Starts or awaits write-back, and promises nothing: neither the file's size nor the disk's own cache is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(fd: c_int, at: off_t, count: off_t, flags: c_uint) -> c_int {
    kernel!(libc::SYS_sync_file_range, fd, at, count, flags) as c_int
}

// --- open and close ----------------------------------------------------------------------------------------------------------

fn open_at(directory: c_int, name: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let open = || kernel!(libc::SYS_openat, directory, name, flags, mode) as c_int;
    let changes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & (libc::O_CREAT | libc::O_TRUNC) != 0;
    // A file without a name is nobody's to restore.
    if !changes || flags & libc::O_TMPFILE == libc::O_TMPFILE {
        return open();
    }
    match place_of(directory, name) {
        Some(place) => place.open(flags, open),
        None => open(),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(name: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, name, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(name: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, name, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(directory: c_int, name: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(directory, name, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(directory: c_int, name: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(directory, name, flags, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open_2(name: *const c_char, flags: c_int) -> c_int {
    open_at(libc::AT_FDCWD, name, flags, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open64_2(name: *const c_char, flags: c_int) -> c_int {
    open_at(libc::AT_FDCWD, name, flags, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(name: *const c_char, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, name, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat64(name: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the same call.
    unsafe { creat(name, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    closing(fd);
    kernel!(libc::SYS_close, fd) as c_int
}

// --- names -------------------------------------------------------------------------------------------------------------------

fn rename_at(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_uint) -> c_int {
    let rename = || kernel!(libc::SYS_renameat2, from_dir, from, to_dir, to, flags);
    registry::rename(place_of(from_dir, from), place_of(to_dir, to), rename) as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    rename_at(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int {
    rename_at(from_dir, from, to_dir, to, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    rename_at(from_dir, from, to_dir, to, flags)
}

fn unlink_at(directory: c_int, name: *const c_char, flags: c_int) -> c_int {
    let unlink = || kernel!(libc::SYS_unlinkat, directory, name, flags);
    let removed = match place_of(directory, name) {
        Some(place) if flags & libc::AT_REMOVEDIR != 0 => place.remove_directory(unlink),
        Some(place) => place.unlink(unlink),
        None => unlink(),
    };
    removed as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(name: *const c_char) -> c_int {
    unlink_at(libc::AT_FDCWD, name, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, name: *const c_char, flags: c_int) -> c_int {
    unlink_at(directory, name, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(name: *const c_char) -> c_int {
    unlink_at(libc::AT_FDCWD, name, libc::AT_REMOVEDIR)
}

fn make_directory_at(directory: c_int, name: *const c_char, mode: mode_t) -> c_int {
    let make = || kernel!(libc::SYS_mkdirat, directory, name, mode);
    match place_of(directory, name) {
        Some(place) => place.make_directory(make) as c_int,
        None => make() as c_int,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(name: *const c_char, mode: mode_t) -> c_int {
    make_directory_at(libc::AT_FDCWD, name, mode)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(directory: c_int, name: *const c_char, mode: mode_t) -> c_int {
    make_directory_at(directory, name, mode)
}

fn link_at(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_int) -> c_int {
    let link = || kernel!(libc::SYS_linkat, from_dir, from, to_dir, to, flags);
    match place_of(to_dir, to) {
        Some(place) => place.link(link) as c_int,
        None => link() as c_int,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    link_at(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    link_at(from_dir, from, to_dir, to, flags)
}
