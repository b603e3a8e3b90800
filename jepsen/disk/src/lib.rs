//! A disk that fails on command: stands between a process and its C library.
