//! Real processes, real faults, and a verdict.
//!
//! `cli` says what can be asked for, `suite` makes cells of it, `cell` carries one out: a [`scene::Scene`] of node processes and proxies, a
//! workload and a nemesis on it at the same time, healing, final reads, verdicts, and a folder with all of it.
//!
//! Never knows how a node works inside; never excuses a violation.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bit_flips;
mod cell;
mod cli;
mod client;
mod cluster;
mod faults;
mod network;
mod planted;
mod ports;
mod process;
mod proxy;
mod results;
mod reviewer;
mod scene;
mod suite;
mod summary;
mod table;
mod workers;
mod workloads;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("stanchion-jepsen: no runtime: {error}");
            return ExitCode::from(suite::NOTHING_SHOWN);
        }
    };
    // Dropping what runs kills its children, so that an interrupt and a panic leave nothing behind.
    let code = runtime.block_on(async {
        tokio::select! {
            code = carry_out(command) => code,
            () = interrupted() => {
                eprintln!("stanchion-jepsen: interrupted");
                suite::NOTHING_SHOWN
            }
        }
    });
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn carry_out(command: Command) -> u8 {
    match command {
        Command::Run(arguments) => suite::run(arguments).await,
        Command::Quick(arguments) => suite::quick(&arguments).await,
        Command::Full(arguments) => suite::full(&arguments).await,
        Command::Reviewer(arguments) => reviewer::run(&arguments).await,
        Command::BitFlips(arguments) => bit_flips::run(arguments).await,
        Command::Planted(arguments) => planted::run(&arguments).await,
        Command::List => {
            suite::list();
            suite::CLEAN
        }
    }
}

async fn interrupted() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
}
