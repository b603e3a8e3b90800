//! Schedules of short intervals that act all through the faults: each time of the spec is acted on, once, and none other (F3).
//!
//! Judged by the server's own times, which no skew between its clocks and the test's can falsify: from a schedule's creation to its last action
//! there is one action for each time; and after healing it goes on to act.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::Verdict;
use stanchion_proof::check::timers::{Action, Schedule as Spec, schedules};
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::enums::v1::ScheduleOverlapPolicy;
use stanchion_proto::temporal::schedule::v1::{
    IntervalSpec, Schedule, ScheduleAction, SchedulePolicies, ScheduleSpec, schedule_action,
};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::{NewWorkflowExecutionInfo, WorkflowExecutionInfo};
use stanchion_proto::temporal::workflowservice::v1::{
    CreateScheduleRequest, DeleteScheduleRequest, DescribeScheduleRequest, ListWorkflowExecutionsRequest,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Workload;
use crate::client::{Client, Outcome};
use crate::scene::{NAMESPACE, Scene};

const SCHEDULES: u64 = 10;
const OPERATION_WITHIN: Duration = Duration::from_secs(30);
/// After healing each schedule acts again within this.
const ACTS_WITHIN: Duration = Duration::from_secs(30);
const SECOND: i64 = 1_000_000_000;

#[derive(Default)]
pub struct Schedules {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    specs: Vec<Spec>,
    actions: Vec<Action>,
    /// Schedules that did not act any more, with their last action.
    stopped: Vec<String>,
}

impl Workload for Schedules {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut client = scene.client("schedules setup");
            for number in 0..SCHEDULES {
                let spec = create(&mut client, number).await?;
                self.state.lock().specs.push(spec);
            }
            Ok(())
        })
    }

    /// The schedules are the load.
    fn run<'a>(&'a self, _: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            stop.cancelled().await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut client = scene.client("schedules last");
            let specs = self.state.lock().specs.clone();
            let last = |actions: &[Action]| actions.iter().map(|action| action.nominal).max().unwrap_or(0);
            for mut spec in specs.iter().cloned() {
                let before = last(&actions(&mut client, &spec.id).await?);
                let patience = Instant::now() + ACTS_WITHIN;
                let seen = loop {
                    let seen = actions(&mut client, &spec.id).await?;
                    // A list reads one group after another: it may hold an action and not yet the one before it, whose run is of another
                    // group. What stays missing is judged.
                    let whole = Spec { until: last(&seen), ..spec.clone() };
                    let enough = last(&seen) > before && schedules(std::slice::from_ref(&whole), &seen).holds();
                    if enough || Instant::now() > patience {
                        break seen;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                };
                let mut state = self.state.lock();
                if last(&seen) <= before {
                    state.stopped.push(format!(
                        "{}: its last action is for {before}, and none came within {ACTS_WITHIN:?}",
                        spec.id
                    ));
                }
                spec.until = last(&seen);
                state.actions.extend(seen);
                if let Some(place) = state.specs.iter_mut().find(|other| other.id == spec.id) {
                    *place = spec;
                }
            }
            for spec in &specs {
                let request = DeleteScheduleRequest {
                    namespace: NAMESPACE.into(),
                    schedule_id: spec.id.clone(),
                    identity: "jepsen".into(),
                };
                let deleted = client
                    .call(OPERATION_WITHIN, |mut service| {
                        let request = request.clone();
                        async move { service.delete_schedule(request).await.map(|_| ()) }
                    })
                    .await;
                if let Outcome::Unknown(why) = deleted {
                    bail!("{} cannot be deleted on a healed cluster: {why}", spec.id);
                }
            }
            Ok(())
        })
    }

    fn check(&self, _: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        let mut goes_on = Verdict::new("schedules go on to act after healing");
        goes_on.looked_at = state.specs.len() as u64;
        for stopped in &state.stopped {
            goes_on.violate("F3", stopped.clone(), Vec::new());
        }
        vec![schedules(&state.specs, &state.actions), goes_on]
    }
}

async fn create(client: &mut Client, number: u64) -> Result<Spec> {
    let id = format!("schedule-{number}");
    let seconds = i64::try_from(number % 3 + 1)?;
    let action = NewWorkflowExecutionInfo {
        workflow_id: format!("{id}-run"),
        workflow_type: Some(WorkflowType { name: "Scheduled".into() }),
        // Nobody polls this queue.
        task_queue: Some(TaskQueue { name: "jepsen-nobody".into(), ..Default::default() }),
        ..Default::default()
    };
    let interval = IntervalSpec { interval: Some(prost_types::Duration { seconds, nanos: 0 }), phase: None };
    let schedule = Schedule {
        spec: Some(ScheduleSpec { interval: vec![interval], ..Default::default() }),
        action: Some(ScheduleAction { action: Some(schedule_action::Action::StartWorkflow(action)) }),
        policies: Some(SchedulePolicies {
            overlap_policy: ScheduleOverlapPolicy::AllowAll as i32,
            // Longer than any fault.
            catchup_window: Some(prost_types::Duration { seconds: 24 * 3_600, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = CreateScheduleRequest {
        namespace: NAMESPACE.into(),
        schedule_id: id.clone(),
        schedule: Some(schedule),
        identity: "jepsen".into(),
        request_id: Uuid::from_u128(client.chance.random()).to_string(),
        ..Default::default()
    };
    let op = client.journal.invoke(client.process, "create-schedule", &id, json!({ "seconds": seconds }));
    let created = client
        .call(OPERATION_WITHIN, |mut service| {
            let request = request.clone();
            async move { service.create_schedule(request).await.map(|_| ()) }
        })
        .await;
    match created {
        Outcome::Ok { .. } => client.journal.ok(op, Value::Null),
        other => bail!("a healthy cluster did not create {id}: {other:?}"),
    }
    let request = DescribeScheduleRequest { namespace: NAMESPACE.into(), schedule_id: id.clone() };
    let described = client
        .call(OPERATION_WITHIN, |mut service| {
            let request = request.clone();
            async move { service.describe_schedule(request).await.map(|reply| reply.into_inner()) }
        })
        .await;
    let Outcome::Ok { reply, .. } = described else { bail!("a healthy cluster did not describe {id}") };
    let created =
        reply.info.and_then(|info| info.create_time).map(nanos).context("a schedule without a time of creation")?;
    let interval = seconds * SECOND;
    Ok(Spec { id, interval, from: created, until: created, not_before: created, not_after: i64::MAX })
}

/// Every run that a schedule started, as a strong list tells it.
async fn actions(client: &mut Client, id: &str) -> Result<Vec<Action>> {
    let request = ListWorkflowExecutionsRequest {
        namespace: NAMESPACE.into(),
        page_size: 1_000,
        query: format!("TemporalScheduledById = '{id}'"),
        ..Default::default()
    };
    let listed = client
        .call(OPERATION_WITHIN, |mut service| {
            let mut request = request.clone();
            async move {
                let mut rows = Vec::new();
                loop {
                    let page = service.list_workflow_executions(request.clone()).await?.into_inner();
                    rows.extend(page.executions);
                    if page.next_page_token.is_empty() {
                        return Ok(rows);
                    }
                    request.next_page_token = page.next_page_token;
                }
            }
        })
        .await;
    match listed {
        Outcome::Ok { reply: rows, .. } => rows.iter().map(|row| action(id, row)).collect(),
        other => bail!("the runs of {id} cannot be listed on a healed cluster: {other:?}"),
    }
}

fn action(id: &str, row: &WorkflowExecutionInfo) -> Result<Action> {
    let execution = row.execution.clone().unwrap_or_default();
    let fields = row.search_attributes.as_ref().map(|attributes| &attributes.indexed_fields);
    let time = fields.and_then(|fields| fields.get("TemporalScheduledStartTime"));
    let time = time.and_then(|time| serde_json::from_slice::<String>(&time.data).ok());
    let time = time.with_context(|| format!("{} does not say for which time it is", execution.workflow_id))?;
    let nominal: prost_types::Timestamp = time.parse().ok().with_context(|| format!("{time:?} is no time"))?;
    Ok(Action {
        schedule_id: id.to_owned(),
        workflow_id: execution.workflow_id,
        run_id: execution.run_id,
        nominal: nanos(nominal),
        started: row.start_time.map(nanos).unwrap_or_default(),
    })
}

fn nanos(at: prost_types::Timestamp) -> i64 {
    at.seconds.saturating_mul(SECOND).saturating_add(i64::from(at.nanos))
}
