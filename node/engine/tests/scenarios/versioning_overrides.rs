//! Versioning overrides: one to upgrade automatically is recorded and kept until it is taken away; a run is pinned to nothing, because no
//! worker deployments are served. Compared with what the real server answers.

use prost_types::FieldMask;
use stanchion_engine::read::describe;
use stanchion_engine::types::ShardTime;
use stanchion_proto::command::UpdateWorkflowOptions;
use stanchion_proto::command::command::Kind;
use stanchion_proto::temporal::common::v1::Priority;
use stanchion_proto::temporal::deployment::v1::WorkerDeploymentVersion;
use stanchion_proto::temporal::workflow::v1::versioning_override::{Override, PinnedOverride, PinnedOverrideBehavior};
use stanchion_proto::temporal::workflow::v1::{VersioningOverride, WorkflowExecutionOptions};
use stanchion_proto::temporal::workflowservice::v1::UpdateWorkflowExecutionOptionsRequest;

use crate::scenario::*;

fn automatic() -> Option<VersioningOverride> {
    Some(VersioningOverride { r#override: Some(Override::AutoUpgrade(true)), ..Default::default() })
}

fn pinned() -> Option<VersioningOverride> {
    let version = Some(WorkerDeploymentVersion { deployment_name: "d".into(), build_id: "b".into() });
    let pinned = PinnedOverride { behavior: PinnedOverrideBehavior::Pinned.into(), version };
    Some(VersioningOverride { r#override: Some(Override::Pinned(pinned)), ..Default::default() })
}

fn update(w: &mut World, path: &str, options: WorkflowExecutionOptions) -> String {
    let request = UpdateWorkflowExecutionOptionsRequest {
        workflow_execution: Some(execution("")),
        workflow_execution_options: Some(options),
        update_mask: Some(FieldMask { paths: vec![path.to_owned()] }),
        ..Default::default()
    };
    let reply = w.apply(Kind::UpdateWorkflowOptions(UpdateWorkflowOptions { request: Some(request) }));
    w.shown(&reply)
}

fn with_override(versioning_override: Option<VersioningOverride>) -> WorkflowExecutionOptions {
    WorkflowExecutionOptions { versioning_override, ..Default::default() }
}

/// Whether the description has versioning, and whether an override is in force.
fn described(w: &World) -> (bool, bool) {
    let described = describe(&w.state, NAMESPACE, WORKFLOW, "", ShardTime(w.now)).unwrap().unwrap();
    let info = described.workflow_execution_info.unwrap().versioning_info;
    (info.is_some(), info.is_some_and(|info| info.versioning_override.is_some()))
}

#[test]
fn an_override_is_kept_until_it_is_taken_away() {
    let mut w = World::new();
    w.start();
    assert_eq!(described(&w), (false, false));
    update(&mut w, "versioning_override", with_override(automatic()));
    assert_eq!(described(&w), (true, true));
    let events = w.events_of(1).len();
    update(&mut w, "versioning_override", with_override(automatic()));
    assert_eq!(w.events_of(1).len(), events, "what is so already leaves no event");
    let priority = Some(Priority { priority_key: 2, ..Default::default() });
    update(&mut w, "priority", WorkflowExecutionOptions { priority, ..Default::default() });
    assert_eq!(described(&w), (true, true), "another option leaves it alone");
    update(&mut w, "versioning_override", with_override(None));
    assert_eq!(described(&w), (true, false));
    w.check();
}

#[test]
fn a_run_that_starts_with_one_has_it_from_its_first_event_on() {
    let mut w = World::new();
    w.start_with(|r| r.versioning_override = automatic());
    assert_eq!(described(&w), (true, true));
    w.check();
}

#[test]
fn nothing_is_pinned_to_a_version_that_nobody_has() {
    let mut w = World::new();
    let refused =
        format!("FailedPrecondition: Pinned version 'd:b' is not present in task queue '{QUEUE}' of type 'Workflow'");
    assert_eq!(w.start_with(|r| r.versioning_override = pinned()), refused);
    w.start();
    assert_eq!(update(&mut w, "versioning_override", with_override(pinned())), refused);
    assert_eq!(described(&w), (false, false));
    w.check();
}
