//! Makes the clock and the random numbers of `os` stand before libc's also for code that looks them up at run time (std and the crate
//! `getrandom` do), which finds only symbols that the program exports.

fn main() {
    for symbol in ["clock_gettime", "getrandom", "getentropy"] {
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol={symbol}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
