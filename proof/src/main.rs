//! Plays programs against any server of Temporal's API and judges what came of it: Stanchion's nodes, or Temporal's own server, which
//! says whether the judge is right.
//!
//! Exit code 0: everything was looked at and holds; 1: a rule is broken; 2: the test itself failed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stanchion_proof::check::{exit_code, report};
use stanchion_proof::drive::{self, Load, Nodes};
use stanchion_proof::journal::{self, Journal};
use stanchion_proof::ledger::{self, Ledger};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

const USAGE: &str = "stanchion-proof run --target HOST:PORT[,HOST:PORT…] [--seed N] [--programs N] [--size N] [--seconds N] [--finish N] \
                     [--clients N] [--workers N] [--namespace NAME] [--out DIR]";

#[derive(Clone)]
struct Targets(Vec<Channel>);

impl Nodes for Targets {
    fn channel(&self, i: usize) -> Channel {
        self.0[i % self.0.len()].clone()
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

struct Options {
    targets: Vec<String>,
    load: Load,
    /// How long clients play at most, and how long what is open then may take.
    seconds: u64,
    finish: u64,
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match play().await {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(2)),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

async fn play() -> Result<i32> {
    let Options { targets, load, seconds, finish, out } = options()?;
    let nodes = targets.iter().map(|target| Ok(Endpoint::from_shared(format!("http://{target}"))?.connect_lazy()));
    let nodes = Targets(nodes.collect::<Result<_>>()?);
    let begun = Instant::now();
    let now = move || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (journal, ledger) = (Journal::new(now), Ledger::new(now));
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            // How long the load lasts, as asked for on the command line.
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            stop.cancel();
        }
    });
    drive::run(load.clone(), nodes.clone(), journal.clone(), ledger.clone(), stop).await;
    eprintln!("played {:.1} s, {journal:?}, {ledger:?}", begun.elapsed().as_secs_f64());
    let within = Duration::from_secs(finish);
    if let Err(unfinished) = drive::finish(load.clone(), nodes.clone(), journal.clone(), ledger.clone(), within).await {
        eprintln!("{unfinished}");
    }
    let histories = drive::histories(&nodes, &load.namespace).await.context("the evidence")?;
    eprintln!("finished after {:.1} s, {} runs", begun.elapsed().as_secs_f64(), histories.len());
    if let Some(out) = out {
        std::fs::create_dir_all(&out)?;
        std::fs::write(out.join("journal.jsonl"), journal::to_jsonl(&journal.lines()))?;
        std::fs::write(out.join("history.edn"), journal::to_edn(&journal.lines()))?;
        std::fs::write(out.join("ledger.jsonl"), ledger::to_jsonl(&ledger.lines()))?;
    }
    let verdicts = drive::judge(&load, &journal, &ledger, &histories);
    print!("{}", report(&verdicts));
    Ok(exit_code(&verdicts))
}

fn options() -> Result<Options> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("run") {
        bail!(USAGE);
    }
    let mut options =
        Options { targets: Vec::new(), load: Load::new(1, "default"), seconds: 60, finish: 60, out: None };
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} takes a value\n{USAGE}"))?;
        let number = || value.parse::<u64>().with_context(|| format!("{name} takes a number, not {value:?}"));
        let load = &mut options.load;
        match name.as_str() {
            "--target" => options.targets = value.split(',').map(str::to_owned).collect(),
            "--namespace" => load.namespace = value,
            "--seed" => load.seed = number()?,
            "--programs" => load.programs = number()?,
            "--size" => load.size = u32::try_from(number()?)?,
            "--clients" => load.clients = usize::try_from(number()?)?,
            "--workers" => load.workers = usize::try_from(number()?)?,
            "--seconds" => options.seconds = number()?,
            "--finish" => options.finish = number()?,
            "--out" => options.out = Some(value.into()),
            _ => bail!("unknown option {name}\n{USAGE}"),
        }
    }
    if options.targets.is_empty() {
        bail!("--target is needed\n{USAGE}");
    }
    Ok(options)
}
