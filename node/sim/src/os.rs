//! What the operating system would tell a process about time and chance, answered by the simulation instead.
//!
//! `clock_gettime`, `getrandom` and `getentropy` are defined here and so stand before libc's in this program. On the thread that runs a
//! simulation they answer with simulated time and with a stream that the seed begins; on every other thread (RocksDB's, the parent of a
//! soak) they ask the kernel, as libc does.
//!
//! ```text
//! monotonic = ORIGIN + the simulated time of whatever runs now (tokio's paused clock inside a host, the world's clock outside)
//! realtime  = EPOCH + that + how wrong the running host's wall clock is
//! ```
//!
//! Never: locks, allocates before the thread is a simulation's, or fails.
//!
//! Called by whoever asks for the time: std, tokio, openraft, the node. Set up by `host` and `seed`.
#![allow(unsafe_code)] // Symbols that replace libc's have C's types; there is no safe way to say so.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The monotonic clock at simulated time zero. Less than any real machine's uptime, so that a wait of the kernel until a simulated
/// instant has always passed already and nothing can hang on one.
const ORIGIN: Duration = Duration::from_secs(100);
/// The wall clock at simulated time zero: 2026-01-01 00:00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    /// Simulated time outside of a host, in nanoseconds.
    static OUTSIDE_NS: Cell<u64> = const { Cell::new(0) };
    /// Inside a host: time is its runtime's.
    static IN_HOST: Cell<bool> = const { Cell::new(false) };
    /// How wrong the wall clock of the host that runs now is.
    static SKEW_NS: Cell<i64> = const { Cell::new(0) };
    /// Asking tokio for the time may lead back here.
    static ASKING: Cell<bool> = const { Cell::new(false) };
    static ZERO: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Which machine runs now, for messages.
    static MACHINE: Cell<usize> = const { Cell::new(usize::MAX) };
    static CHANCE: RefCell<Option<ChaCha8Rng>> = const { RefCell::new(None) };
}

/// Makes this thread a simulation's, for good: its time stands at zero, its chance comes from the seed.
pub fn simulate(seed: u64) {
    CHANCE.set(Some(ChaCha8Rng::seed_from_u64(seed)));
    SIMULATED.set(true);
    ZERO.set(Some(Instant::now()));
}

/// Sets the time outside of hosts.
pub fn set_outside(now: Duration) {
    OUTSIDE_NS.set(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
}

/// Runs `f` inside a host: with its runtime's time, and its wall clock this wrong.
pub fn inside<R>(skew_ns: i64, f: impl FnOnce() -> R) -> R {
    /// Also when `f` panics.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_HOST.set(false);
            SKEW_NS.set(0);
        }
    }
    let _leave = Leave;
    SKEW_NS.set(skew_ns);
    IN_HOST.set(true);
    f()
}

/// Says which machine runs from now on; `usize::MAX` for none.
pub fn set_machine(machine: usize) {
    MACHINE.set(machine);
}

pub fn machine() -> usize {
    MACHINE.get()
}

/// Simulated time as it is here.
pub fn now() -> Duration {
    Duration::from_nanos(now_ns())
}

fn now_ns() -> u64 {
    if !IN_HOST.get() || ASKING.replace(true) {
        return OUTSIDE_NS.get();
    }
    // Outside of a runtime this comes back to `clock_gettime`, which then answers with the time outside.
    let now = tokio::time::Instant::now().into_std();
    ASKING.set(false);
    let since = ZERO.get().map_or(Duration::ZERO, |zero| now.saturating_duration_since(zero));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn real_clock(clock: libc::clockid_t, to: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the system call with the arguments that the caller gave to its wrapper.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) as libc::c_int }
}

/// # Safety
/// As libc's: `to` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, to: *mut libc::timespec) -> libc::c_int {
    if !SIMULATED.get() {
        return real_clock(clock, to);
    }
    let since_boot = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
            let right = EPOCH + Duration::from_nanos(now_ns());
            let skew = SKEW_NS.get();
            let by = Duration::from_nanos(skew.unsigned_abs());
            if skew < 0 { right.saturating_sub(by) } else { right + by }
        }
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => {
            ORIGIN + Duration::from_nanos(now_ns())
        }
        // CPU time: a measurement of the harness.
        _ => return real_clock(clock, to),
    };
    let time = libc::timespec {
        tv_sec: since_boot.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(since_boot.subsec_nanos() as i32),
    };
    // SAFETY: the caller gave a place for it.
    unsafe { to.write(time) };
    0
}

/// # Safety
/// As libc's: `to` must be writable for `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(to: *mut libc::c_void, bytes: libc::size_t, flags: libc::c_uint) -> libc::ssize_t {
    let drawn = SIMULATED.get()
        && CHANCE.with_borrow_mut(|chance| match chance {
            Some(chance) if !to.is_null() => {
                // SAFETY: the caller gave this much room.
                chance.fill_bytes(unsafe { std::slice::from_raw_parts_mut(to.cast(), bytes) });
                true
            }
            _ => false,
        });
    if drawn {
        return bytes as libc::ssize_t;
    }
    // SAFETY: the system call with the arguments that the caller gave to its wrapper.
    unsafe { libc::syscall(libc::SYS_getrandom, to, bytes, flags) as libc::ssize_t }
}

/// # Safety
/// As libc's: `to` must be writable for `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(to: *mut libc::c_void, bytes: libc::size_t) -> libc::c_int {
    // SAFETY: as this function's.
    if unsafe { getrandom(to, bytes, 0) } == bytes as libc::ssize_t { 0 } else { -1 }
}

/// This program's own file, also when a build has put another one into its place: all runs of a soak are of one program.
pub const SELF: &str = "/proc/self/exe";

/// Makes addresses the same in every run: some hash functions take addresses for their seeds. Starts the program anew the first time.
///
/// # Errors
/// The program could not be started anew.
pub fn fix_addresses() -> std::io::Result<()> {
    use std::os::unix::process::CommandExt;
    const ASK: libc::c_ulong = 0xffff_ffff;
    // SAFETY: asks for, and sets, a flag of this process.
    let now = unsafe { libc::personality(ASK) };
    if now < 0 || now & libc::ADDR_NO_RANDOMIZE != 0 {
        return Ok(());
    }
    // SAFETY: as above.
    if unsafe { libc::personality((now | libc::ADDR_NO_RANDOMIZE) as libc::c_ulong) } < 0 {
        // Not permitted in this container: runs are then as alike as the hash functions allow.
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    arguments.next();
    Err(std::process::Command::new(SELF).args(arguments).exec())
}
