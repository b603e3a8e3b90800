//! A flipped bit in each kind of file of one node, one after another, under load: the node stops or heals, never serves or leads with it,
//! and nothing acknowledged is lost.
//!
//! ```text
//! kill -9 one node ─▶ flip a bit ─▶ start it ─▶ refuses to start, and says why          ─▶ its folder of before is put back
//!                                           └─▶ serves ─▶ the others restart, so that it   ─▶ stops at the bit ─▶ the bit is put back
//!                                                         leads; all runs are read from it ─▶ never meets it: all it said was right
//! ```
//!
//! That it said the right thing is judged from what clients read: of every list and of every large payload, while the damaged node leads,
//! and of all again at the end, from every node. Called by `main` as the command `bit-flips`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use stanchion_proof::check::Verdict;
use stanchion_proof::journal::Completion;
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cell::Ended;
use crate::cli::BitFlipsArgs;
use crate::client::{Client, Outcome, from_payloads, json_payloads};
use crate::cluster::READY_WITHIN;
use crate::faults::files::{Damage, Harm, Kind, Place, Start, copy, last_words, repair, start};
use crate::faults::nemesis::{Done, NotBack, Span};
use crate::scene::{NAMESPACE, Scene};
use crate::workloads::Workload as _;
use crate::workloads::signal_list::{self, SignalList};
use crate::{results, suite};

const CALL_WITHIN: Duration = Duration::from_secs(30);
/// Above the size from which values of histories live in blob files.
const LARGE_BYTES: usize = 12 * 1024;
const LARGE_RUNS: usize = 24;
/// Between two looks into a node's folder.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The keeper checkpoints every five seconds: tables and blob files are there a little after that.
const FILES_WITHIN: Duration = Duration::from_secs(30);

/// What is damaged, in this order: where, how, and how often.
const CASES: &[(Kind, Harm, Place)] = &[
    (Kind::LogWal, Harm::Flip, Place::Beginning),
    (Kind::LogWal, Harm::Flip, Place::Middle),
    (Kind::LogWal, Harm::Flip, Place::End),
    (Kind::LogWal, Harm::Truncate, Place::Middle),
    (Kind::LogTable, Harm::Flip, Place::Beginning),
    (Kind::LogTable, Harm::Flip, Place::Middle),
    (Kind::LogTable, Harm::Flip, Place::End),
    (Kind::LogTable, Harm::Truncate, Place::Middle),
    (Kind::LogManifest, Harm::Flip, Place::Middle),
    (Kind::LogManifest, Harm::Flip, Place::End),
    (Kind::LogManifest, Harm::Truncate, Place::End),
    (Kind::LogCurrent, Harm::Flip, Place::Anywhere),
    (Kind::LogOptions, Harm::Flip, Place::Anywhere),
    (Kind::StateTable, Harm::Flip, Place::Beginning),
    (Kind::StateTable, Harm::Flip, Place::Middle),
    (Kind::StateTable, Harm::Flip, Place::End),
    (Kind::StateTable, Harm::Truncate, Place::Middle),
    (Kind::StateBlob, Harm::Flip, Place::Middle),
    (Kind::StateBlob, Harm::Flip, Place::End),
    (Kind::StateManifest, Harm::Flip, Place::Middle),
    (Kind::StateManifest, Harm::Flip, Place::End),
    (Kind::StateManifest, Harm::Truncate, Place::End),
    (Kind::StateCurrent, Harm::Flip, Place::Anywhere),
    (Kind::StateOptions, Harm::Flip, Place::Anywhere),
    (Kind::SyncedMark, Harm::Flip, Place::Anywhere),
    (Kind::Identity, Harm::Flip, Place::Anywhere),
    (Kind::Identity, Harm::Truncate, Place::Middle),
    (Kind::Staged, Harm::Flip, Place::Anywhere),
];

/// One line of the table.
#[derive(Clone, Debug, serde::Serialize)]
struct Row {
    kind: &'static str,
    node: u64,
    what: String,
    did: Did,
    /// In its own words, or what it led meanwhile.
    said: String,
    /// What was done to set the node right.
    after: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
enum Did {
    /// It never served.
    RefusedToStart,
    /// It served until it met the bit.
    StoppedAtIt,
    /// The file is not the damaged one any more.
    Healed,
    /// Nothing that it said came from there.
    NeverMetIt,
    NoSuchFile,
}

impl Did {
    fn words(self) -> &'static str {
        match self {
            Self::RefusedToStart => "refused to start",
            Self::StoppedAtIt => "stopped when it read it",
            Self::Healed => "healed: the file was written anew",
            Self::NeverMetIt => "never read it; all it said was right",
            Self::NoSuchFile => "had no such file",
        }
    }
}

/// A run whose start carried so much that it lies in a blob file.
struct Large {
    workflow_id: String,
    run_id: String,
    text: String,
}

pub async fn run(arguments: BitFlipsArgs) -> u8 {
    let seed = suite::seed(&arguments.common);
    match carry_out(&arguments, seed).await {
        Ok((ended, rows)) => {
            println!("{}{}", table(&rows), results::shown(&ended));
            suite::code(ended.conclusion())
        }
        Err(error) => suite::failed(&error),
    }
}

async fn carry_out(arguments: &BitFlipsArgs, seed: u64) -> Result<(Ended, Vec<Row>)> {
    let begin = Instant::now();
    let out = suite::folder(&arguments.common.out, "signal-list-bit-flips")?;
    let scene = Scene::prepare(suite::shape(&arguments.common, seed)?, out.clone()).await?;
    scene.cluster.begin().await?;
    let lists = SignalList::default();
    lists.setup(&scene).await?;
    let large = begin_large(&scene).await?;
    let stop = CancellationToken::new();
    let rows = Mutex::new(Vec::new());
    let harming = async {
        let done = all_cases(&scene, &arguments.only, &large, &rows).await;
        stop.cancel();
        done
    };
    let (done, loaded) = tokio::join!(harming, lists.run(&scene, stop.clone()));
    let done = done.inspect_err(|_| scene.cluster.keep_data())?;
    loaded.context("the load")?;
    let rows = rows.into_inner();
    let mut verdicts = vec![stopped_or_healed(&rows, &done)];
    if done.trouble.is_empty() {
        scene.say("all is set right; reading everything");
        verdicts.push(large_are_there(&scene, &large).await?);
        lists.finish(&scene).await.context("the final reads")?;
        verdicts.extend(lists.check(&scene));
    }
    scene.cluster.end().await;
    let mut lived = Verdict::new("no node panics, or ends for another reason than its disk");
    lived.looked_at = scene.cluster.nodes.len() as u64;
    scene.cluster.findings().into_iter().for_each(|what| lived.violate("L4", what, Vec::new()));
    verdicts.push(lived);
    let ended = Ended {
        workload: "signal-list".into(),
        fault: "bit-flips".into(),
        seed,
        nodes: scene.cluster.nodes.len() as u64,
        took: begin.elapsed(),
        verdicts,
        done,
        operations: results::Counts::of(&scene.journal.lines()),
        epoch: scene.epoch,
        out: out.clone(),
    };
    std::fs::write(out.join("bit-flips.md"), table(&rows))?;
    std::fs::write(out.join("bit-flips.json"), serde_json::to_string_pretty(&rows)?)?;
    results::leave(&scene, &ended)?;
    Ok((ended, rows))
}

async fn all_cases(scene: &Scene, only: &Option<String>, large: &[Large], rows: &Mutex<Vec<Row>>) -> Result<Done> {
    let mut chance = scene.chance("bit-flips");
    let mut done = Done::default();
    let wanted = |kind: &Kind| only.as_ref().is_none_or(|part| kind.name().contains(part.as_str()));
    for (at, (kind, harm, place)) in CASES.iter().filter(|(kind, ..)| wanted(kind)).enumerate() {
        let node = at as u64 % scene.cluster.nodes.len() as u64 + 1;
        let from = scene.now();
        scene.journal.fault("bit-flip", json!({ "kind": kind.name(), "node": format!("n{node}") }));
        match case(scene, node, *kind, *harm, *place, large, &mut chance).await {
            Ok(row) => {
                scene.say(&format!("{}, {}: {}: {}", row.kind, row.what, row.did.words(), row.said));
                scene.journal.fault("bit-flip", serde_json::to_value(&row)?);
                rows.lock().push(row);
            }
            Err(error) => match error.downcast::<NotBack>() {
                Ok(NotBack(why)) => {
                    done.trouble.push(format!("{} of n{node}: {why}", kind.name()));
                    scene.cluster.keep_data();
                    return Ok(done);
                }
                Err(error) => return Err(error.context(format!("{} of n{node}", kind.name()))),
            },
        }
        done.spans.push(Span { fault: kind.name().to_owned(), from, healed: scene.now(), to: scene.now() });
    }
    Ok(done)
}

/// One damage, and what came of it.
async fn case(
    scene: &Scene,
    number: u64,
    kind: Kind,
    harm: Harm,
    place: Place,
    large: &[Large],
    chance: &mut ChaCha8Rng,
) -> Result<Row> {
    let node = scene.cluster.node(number);
    let Some(path) = file_of_the_dead(scene, number, kind, chance).await? else {
        scene.cluster.start(&[number])?;
        all_serve(scene).await?;
        let (what, said, after) = (String::new(), String::new(), String::new());
        return Ok(Row { kind: kind.name(), node: number, what, did: Did::NoSuchFile, said, after });
    };
    let good = scene.cluster.folder.join(format!("{}.good", node.name()));
    copy(&node.data, &good)?;
    let damage = Damage::inflict(&path, &node.data, harm, place, chance)?;
    let logged = node.process.log.metadata().map_or(0, |metadata| metadata.len());
    let started = start(scene, number).await?;
    let (did, said, after) = match started {
        Start::Refused(said) => (Did::RefusedToStart, said, repair(&node.data, &damage, &good, true)?),
        Start::Serves => {
            let led = lead_and_be_read(scene, number, large).await?;
            let stopped = !node.process.is_running();
            scene.cluster.kill(&[number]);
            let after = repair(&node.data, &damage, &good, false)?;
            match (stopped, after.as_str()) {
                (true, _) => (Did::StoppedAtIt, last_words(&node.process.log, logged), after),
                (false, "Gone") => (Did::Healed, led, after),
                (false, _) => (Did::NeverMetIt, led, after),
            }
        }
    };
    scene.cluster.start(&[number])?;
    all_serve(scene).await?;
    Ok(Row { kind: kind.name(), node: number, what: damage.to_string(), did, said, after })
}

/// Kills the node and finds a file of this kind; gives the node time to have one.
async fn file_of_the_dead(
    scene: &Scene,
    number: u64,
    kind: Kind,
    chance: &mut ChaCha8Rng,
) -> Result<Option<std::path::PathBuf>> {
    let node = scene.cluster.node(number);
    let begin = Instant::now();
    loop {
        scene.cluster.kill(&[number]);
        if kind == Kind::Staged {
            stage(&node.data)?;
        }
        let files = kind.files(&node.data);
        // The newest of those of which there is one in use and older ones that wait for their removal.
        let newest_counts = matches!(kind, Kind::LogManifest | Kind::StateManifest | Kind::LogWal);
        let found = if newest_counts { files.last() } else { files.choose(chance) };
        if found.is_some() || begin.elapsed() > FILES_WITHIN {
            return Ok(found.cloned());
        }
        scene.cluster.start(&[number])?;
        all_serve(scene).await?;
        // The node writes it while it runs, with its next checkpoint; after the time that is given, the kind is left out.
        while kind.files(&node.data).is_empty() && begin.elapsed() <= FILES_WITHIN {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What a snapshot that was being received leaves in a node that is killed: a table that is not live yet.
fn stage(data: &Path) -> Result<()> {
    let folder = data.join("staging").join("9");
    std::fs::create_dir_all(&folder)?;
    match Kind::StateTable.files(data).first() {
        Some(table) => drop(std::fs::copy(table, folder.join("state-0.sst"))?),
        None => std::fs::write(folder.join("state-0.sst"), b"a table")?,
    }
    Ok(())
}

/// Makes the node lead, by restarting the others one after another, and reads every run through it. Ends early when it stops. What it led.
async fn lead_and_be_read(scene: &Scene, number: u64, large: &[Large]) -> Result<String> {
    let node = scene.cluster.node(number);
    let mut most = 0;
    for other in scene.cluster.numbers().into_iter().filter(|other| *other != number) {
        if !node.process.is_running() {
            break;
        }
        scene.cluster.terminate(other).await;
        let led = scene.cluster.led().await.get(&number).map_or(0, Vec::len);
        most = most.max(led);
        read_all(scene, number, large).await?;
        scene.cluster.start(&[other])?;
        if let Err(why) = scene.cluster.wait_ready(&[other], READY_WITHIN).await {
            bail!(NotBack(why));
        }
    }
    Ok(format!("led {most} groups meanwhile"))
}

/// Reads every run whose start was acknowledged, from this node, which asks the leader of the run's group: with another node down, itself
/// or the third one. A read that fails is the node's to explain by its end; one that answers is judged.
async fn read_all(scene: &Scene, number: u64, large: &[Large]) -> Result<()> {
    let node = scene.cluster.node(number);
    let mut client = scene.client_of(number, "bit-flips reads");
    let starts = scene.journal.operations().into_iter().filter(|op| op.f == "start");
    let runs = starts.filter_map(|op| match op.completion {
        Completion::Ok { value, .. } => Some((op.key, value["run"].as_str()?.to_owned())),
        _ => None,
    });
    for (workflow_id, run_id) in runs {
        if !node.process.is_running() {
            return Ok(());
        }
        let op = client.journal.invoke(client.process, "read", &workflow_id, Value::Null);
        match signal_list::read(&mut client, &workflow_id, &run_id, CALL_WITHIN).await {
            Outcome::Ok { reply, .. } => client.journal.ok(op, json!(reply)),
            Outcome::Refused { status, .. } => client.journal.fail(op, status.message()),
            Outcome::Unknown(why) => client.journal.fail(op, &why),
        }
    }
    for run in large {
        if !node.process.is_running() {
            return Ok(());
        }
        if let Outcome::Ok { reply, .. } = input_of(&mut client, run).await
            && reply.as_deref() != Some(run.text.as_str())
        {
            bail!(NotBack(format!("n{number} answered another input of {} than what was sent", run.workflow_id)));
        }
    }
    Ok(())
}

async fn all_serve(scene: &Scene) -> Result<()> {
    match scene.cluster.wait_ready(&scene.cluster.numbers(), READY_WITHIN).await {
        Ok(_) => Ok(()),
        Err(why) => bail!(NotBack(why)),
    }
}

async fn begin_large(scene: &Scene) -> Result<Vec<Large>> {
    let mut client = scene.client("bit-flips large");
    let mut begun = Vec::new();
    for at in 0..LARGE_RUNS {
        let workflow_id = format!("large-{at}");
        // Text that does not compress away.
        let text: String = (0..LARGE_BYTES).map(|_| char::from(client.chance.random_range(b'0'..=b'z'))).collect();
        let request = StartWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: workflow_id.clone(),
            workflow_type: Some(WorkflowType { name: "Large".into() }),
            task_queue: Some(TaskQueue { name: "jepsen-nobody".into(), ..Default::default() }),
            input: Some(json_payloads(&json!(text))),
            request_id: Uuid::from_u128(client.chance.random()).to_string(),
            identity: "jepsen".into(),
            ..Default::default()
        };
        let started = client
            .call(CALL_WITHIN, |mut service| {
                let request = request.clone();
                async move { service.start_workflow_execution(request).await.map(tonic::Response::into_inner) }
            })
            .await;
        match started {
            Outcome::Ok { reply, .. } => begun.push(Large { workflow_id, run_id: reply.run_id, text }),
            other => bail!("a healthy cluster did not start {workflow_id}: {other:?}"),
        }
    }
    Ok(begun)
}

async fn input_of(client: &mut Client, run: &Large) -> Outcome<Option<String>> {
    let (node, events) = match client.history(&run.workflow_id, &run.run_id, CALL_WITHIN).await {
        Outcome::Ok { node, reply } => (node, reply),
        Outcome::Refused { status, certain } => return Outcome::Refused { status, certain },
        Outcome::Unknown(why) => return Outcome::Unknown(why),
    };
    let reply = match events.into_iter().next().and_then(|event| event.attributes) {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => {
            from_payloads(started.input.as_ref()).and_then(|value| Some(value.as_str()?.to_owned()))
        }
        _ => None,
    };
    Outcome::Ok { node, reply }
}

async fn large_are_there(scene: &Scene, large: &[Large]) -> Result<Verdict> {
    let mut verdict = Verdict::new("large payloads are what was sent, from every node");
    for number in scene.cluster.numbers() {
        let mut client = scene.client_of(number, "bit-flips last");
        for run in large {
            verdict.looked_at += 1;
            match input_of(&mut client, run).await {
                Outcome::Ok { reply, .. } if reply.as_deref() == Some(run.text.as_str()) => {}
                Outcome::Ok { .. } => {
                    verdict.violate("A1", format!("n{number} has another input of {}", run.workflow_id), Vec::new());
                }
                Outcome::Refused { status, .. } => {
                    verdict.violate("A1", format!("n{number} does not know {}: {status}", run.workflow_id), Vec::new());
                }
                Outcome::Unknown(why) => {
                    bail!("{} cannot be read from n{number} on a healed cluster: {why}", run.workflow_id)
                }
            }
        }
    }
    Ok(verdict)
}

/// A node that neither serves nor ends, or that does not come back once it is set right.
fn stopped_or_healed(rows: &[Row], done: &Done) -> Verdict {
    let mut verdict = Verdict::new("a node with a damaged file stops, heals, or never meets the damage");
    verdict.looked_at = rows.iter().filter(|row| row.did != Did::NoSuchFile).count() as u64;
    done.trouble.iter().for_each(|why| verdict.violate("L4", why.clone(), Vec::new()));
    verdict
}

/// As Markdown.
fn table(rows: &[Row]) -> String {
    let mut text = String::from("| File | What was done | The node | In its words |\n|---|---|---|---|\n");
    for row in rows {
        // Writing to a String cannot fail.
        let said: String = row.said.replace('|', "/").chars().take(220).collect();
        let _ = writeln!(text, "| {} | {} | {} | {said} |", row.kind, row.what, row.did.words());
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(row.did.words()).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(did, count)| format!("{count} {did}")).collect();
    let _ = writeln!(text, "\n{} damages: {}", rows.len(), counts.join("; "));
    text
}
