//! The four failure tests that security reviewers ask for, by name: kill workers, cut workers off, let credentials expire, take the whole
//! control plane away. Each under real load by workers of the published Python SDK, with figures before, during and after, and a report as
//! text and as a page.
//!
//! A test here is one or more cells of the same harness as everything else, with one fault at a known moment. What cannot be shown is said
//! to be so: a report never passes for want of anything to look at. Called by `main`.

mod figures;
mod report;

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use stanchion_proto::temporal::workflowservice::v1::DescribeNamespaceRequest;
use tonic::metadata::MetadataValue;

use crate::cell::{Cell, Ended};
use crate::cli::{ReviewerArgs, ReviewerTest};
use crate::cluster::last_lines;
use crate::faults::nemesis::Plan;
use crate::faults::{self, Fault, Kind};
use crate::network::Link;
use crate::process::Process;
use crate::proxy::Harm;
use crate::scene::{NAMESPACE, Scene};
use crate::{ports, suite, workloads};

const WORKLOAD: &str = "sdk-steps";
const BEFORE: Duration = Duration::from_secs(12);
const AFTER: Duration = Duration::from_secs(15);
/// Attempts of the load time out after eight seconds: workers are away for longer, so that their steps are given to others.
const AWAY: Duration = Duration::from_secs(10);

/// What one test does, in words for whoever reads the report.
struct Test {
    name: &'static str,
    title: &'static str,
    /// What a reviewer asks.
    question: &'static str,
    parts: Vec<Part>,
    limits: &'static [&'static str],
    /// Why the test shows nothing of what it is named after, if so.
    shows_nothing: Option<&'static str>,
}

struct Part {
    what: &'static str,
    fault: &'static Kind,
    lasts: Duration,
}

/// A part that was carried out.
struct Shown {
    what: &'static str,
    ended: Ended,
    figures: figures::Figures,
    /// What the nemesis noted, with seconds since the start.
    told: Vec<(f64, String, Value)>,
}

pub async fn run(arguments: &ReviewerArgs) -> u8 {
    match carry_out(arguments).await {
        Ok(code) => code,
        Err(error) => suite::failed(&error),
    }
}

async fn carry_out(arguments: &ReviewerArgs) -> Result<u8> {
    let common = &arguments.common;
    let test = test(arguments.test)?;
    let seed = suite::seed(common);
    let folder = suite::folder(&common.out, &format!("reviewer-{}", test.name))?;
    let workload = workloads::find(WORKLOAD).context("the workload of these tests is gone")?;
    let mut shown = Vec::new();
    let mut code = suite::CLEAN;
    for (at, part) in test.parts.iter().enumerate() {
        let cell = Cell {
            workload,
            fault: part.fault,
            plan: Plan::Once { after: BEFORE, lasts: part.lasts },
            seconds: (BEFORE + part.lasts + AFTER).as_secs(),
            shape: suite::shape(common, seed.wrapping_add(at as u64))?,
            out: folder.join(format!("{}-{}", at + 1, part.fault.name)),
        };
        let ended = cell.run().await?;
        code = suite::outranking(code, suite::code(ended.conclusion()));
        let figures = figures::Figures::of(&ended)?;
        let told = figures::told(&ended)?;
        shown.push(Shown { what: part.what, ended, figures, told });
    }
    if test.shows_nothing.is_some() {
        code = suite::outranking(code, suite::NOTHING_SHOWN);
    }
    let text = report::text(&test, &shown, seed, code);
    std::fs::write(folder.join("report.txt"), &text)?;
    std::fs::write(folder.join("report.html"), report::html(&test, &shown, seed, code))?;
    println!("{text}\nreport: {}", folder.join("report.html").display());
    Ok(code)
}

fn test(which: ReviewerTest) -> Result<Test> {
    let named = |name: &str| faults::find(name).with_context(|| format!("the fault `{name}` is not in this build"));
    Ok(match which {
        ReviewerTest::KillWorkers => Test {
            name: "kill-workers",
            title: "Workers are killed in mid-run",
            question: "If every worker process dies with work in its hands, is any finished step lost or done again, and does work go on \
                       when workers come back?",
            parts: vec![Part {
                what: "All worker processes get kill -9 at one moment, stay away for ten seconds, and new ones are started.",
                fault: &KILL_ALL_WORKERS,
                lasts: AWAY,
            }],
            limits: &[
                "A step that was under way on a killed worker is given out again when its time is over (8 s here, 4 s for steps with \
                       heartbeats): that is what at-least-once attempts mean. Steps must be safe to attempt twice; what was acknowledged is \
                       never attempted again.",
            ],
            shows_nothing: None,
        },
        ReviewerTest::CutWorkers => Test {
            name: "cut-workers",
            title: "Workers are cut off from the cluster",
            question: "If the network between workers and the cluster fails, silently or with refusals, is any step lost or doubled, and do \
                       workers find back by themselves?",
            parts: vec![
                Part {
                    what: "Every link from workers to nodes holds all bytes for ten seconds: nothing arrives, nobody is told.",
                    fault: &HOLD_WORKERS,
                    lasts: AWAY,
                },
                Part {
                    what: "Every connection of workers is closed and new ones are refused for ten seconds.",
                    fault: &REFUSE_WORKERS,
                    lasts: AWAY,
                },
            ],
            limits: &[
                "The cut is made by a proxy on each link, not in the kernel: a held link still accepts connections, of which no byte \
                       gets anywhere.",
            ],
            shows_nothing: None,
        },
        ReviewerTest::ExpireCredentials => Test {
            name: "expire-credentials",
            title: "Credentials expire in mid-run",
            question: "If the credentials of workers and clients expire while runs are under way, is access refused at once, and is any run \
                       lost?",
            parts: vec![Part {
                what: "While workers run, calls are made without a credential, with one that expired in 2001, and with nonsense; and a node \
                       is started on an address that other machines can reach.",
                fault: &TRY_CREDENTIALS,
                lasts: Duration::from_secs(1),
            }],
            limits: &[
                "Until credentials exist, whoever reaches a node's address may do everything: nodes listen on loopback unless told \
                       otherwise (`--insecure`), and the network around them is what keeps others out.",
            ],
            shows_nothing: Some(
                "Stanchion has no credentials yet: neither certificates nor keys nor tokens. There is nothing that could expire, so this \
                 test shows nothing about expiry. It says what was tried instead, and what a node does without credentials.",
            ),
        },
        ReviewerTest::WholePlane => Test {
            name: "whole-plane",
            title: "The whole control plane is taken away and brought back",
            question: "If every node dies at once, by kill -9 or by loss of power, is any acknowledged start, step or result lost, and do \
                       workers and runs go on by themselves when the nodes come back?",
            parts: vec![
                Part {
                    what: "All nodes get kill -9 at one moment and are started again ten seconds later.",
                    fault: named("kill-all")?,
                    lasts: AWAY,
                },
                Part {
                    what: "All nodes lose their power at one moment: whatever was not synced to disk may be gone, old, new or torn. They are \
                           started again ten seconds later.",
                    fault: named("power-all")?,
                    lasts: AWAY,
                },
            ],
            limits: &[
                "Power loss is simulated by a layer between each node and its files that knows what was synced; disks that lie about \
                       syncing are another matter, and no software survives all of them lying.",
            ],
            shows_nothing: None,
        },
    })
}

static KILL_ALL_WORKERS: Kind = Kind {
    workers: true,
    ..faults::kind("kill-all-workers", "kill -9 of all worker processes", (0, 0), || {
        Box::new(faults::workers::KillWorkers { all: true })
    })
};

static HOLD_WORKERS: Kind = Kind {
    needs: |cluster| cluster.network.worker_links(),
    ..faults::kind("hold-all-workers", "nothing passes between workers and nodes", (0, 0), || {
        Box::new(CutAll { refused: false })
    })
};

static REFUSE_WORKERS: Kind = Kind {
    needs: |cluster| cluster.network.worker_links(),
    ..faults::kind("refuse-all-workers", "connections of workers are closed and refused", (0, 0), || {
        Box::new(CutAll { refused: true })
    })
};

static TRY_CREDENTIALS: Kind =
    faults::kind("try-credentials", "calls with and without credentials", (0, 0), || Box::new(TryCredentials));

struct CutAll {
    refused: bool,
}

impl Fault for CutAll {
    fn begin<'a>(&'a mut self, scene: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let links = scene.cluster.network.worker_links();
            for link in &links {
                scene.cluster.network.harm(*link, if self.refused { Harm::refused() } else { Harm::held() });
            }
            Ok(json!({ "cut": links.iter().map(Link::to_string).collect::<Vec<_>>() }))
        })
    }
}

/// Harms nothing: looks at what a node makes of credentials.
struct TryCredentials;

/// Header `{"alg":"none"}`, body `{"sub":"reviewer","exp":1000000000}`: expired in September 2001.
const EXPIRED: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZXZpZXdlciIsImV4cCI6MTAwMDAwMDAwMH0.";

impl Fault for TryCredentials {
    fn begin<'a>(&'a mut self, scene: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut told = serde_json::Map::new();
            for (how, credential) in
                [("without", None), ("expired", Some(EXPIRED)), ("nonsense", Some("Bearer nonsense"))]
            {
                let mut request =
                    tonic::Request::new(DescribeNamespaceRequest { namespace: NAMESPACE.into(), ..Default::default() });
                if let Some(credential) = credential {
                    request.metadata_mut().insert("authorization", MetadataValue::try_from(credential)?);
                }
                let answer = scene.apis[0].service.clone().describe_namespace(request).await;
                let answer = match answer {
                    Ok(_) => "accepted".to_owned(),
                    Err(status) => format!("{:?}: {}", status.code(), status.message()),
                };
                told.insert(format!("a call with credential: {how}"), json!(answer));
            }
            told.insert("a node on an address that other machines can reach".into(), json!(open_node(scene).await?));
            Ok(Value::Object(told))
        })
    }
}

/// What a node says that is to listen beyond this machine without having been told that this is wanted.
async fn open_node(scene: &Scene) -> Result<String> {
    let config = scene.cluster.folder.join("open.toml");
    let port = ports::free()?.port();
    let (data, peer, http) = (scene.cluster.folder.join("open"), ports::free()?, ports::free()?);
    std::fs::write(
        &config,
        format!(
            "node_id = 99\ndata = \"{}\"\ngrpc = \"0.0.0.0:{port}\"\nhttp = \"{http}\"\npeer = \"{peer}\"\n",
            data.display()
        ),
    )?;
    let arguments = vec!["node".to_owned(), "--config".to_owned(), config.to_string_lossy().into_owned()];
    let process = Process::new("open", &scene.cluster.shape.binary, arguments, scene.out.join("open.log"));
    process.start()?;
    let refused = tokio::time::timeout(Duration::from_secs(10), async {
        while process.is_running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    process.kill();
    Ok(match refused {
        Ok(()) => format!("refuses to start: {}", last_lines(&process.tail(600))),
        Err(_) => "starts and listens".to_owned(),
    })
}
