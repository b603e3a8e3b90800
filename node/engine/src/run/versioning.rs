//! Versioning overrides: a caller says to which workers a run's tasks go, whatever those say themselves.
//!
//! A run that no deployment pins goes to whoever polls its queue: automatic upgrade changes nothing of that, so it is recorded and shown.
//! There are no worker deployments here; no version is ever in a task queue, and pinning is refused as the real server refuses it then.
//!
//! Called by `start` and `options`, by `rebuild` and `reapply` for what events say, by descriptions and records.

use stanchion_proto::row::RunDetailRow;
use stanchion_proto::temporal::enums::v1::VersioningBehavior;
use stanchion_proto::temporal::workflow::v1::versioning_override::{Override, PinnedOverrideBehavior};
use stanchion_proto::temporal::workflow::v1::{VersioningOverride, WorkflowExecutionVersioningInfo};

use super::Run;
use crate::reply::{Code, Rejection};

/// The override in the form that events have it. `of_run`: the workflow id of the run that goes on and is to have it.
#[allow(deprecated, reason = "older clients say it in these fields")]
pub(super) fn checked(
    asked: &VersioningOverride,
    task_queue: &str,
    of_run: Option<&str>,
) -> Result<VersioningOverride, Rejection> {
    let version = match &asked.r#override {
        Some(Override::AutoUpgrade(true)) => return Ok(automatic()),
        Some(Override::AutoUpgrade(false)) => return Err(Rejection::invalid("auto-upgrade override must be true")),
        Some(Override::OneTime(once)) => match &once.target_deployment_version {
            Some(version) => format!("{}:{}", version.deployment_name, version.build_id),
            None => {
                let why = "must provide target deployment version if override is one-time.";
                return Err(Rejection::invalid(why));
            }
        },
        Some(Override::Pinned(pinned)) => match (pinned.behavior(), &pinned.version) {
            (PinnedOverrideBehavior::Unspecified, None) => return Err(without_version(None)),
            (PinnedOverrideBehavior::Unspecified, Some(_)) => {
                let why = "must specify pinned override behavior if override is pinned.";
                return Err(Rejection::invalid(why));
            }
            (PinnedOverrideBehavior::Pinned, Some(version)) => {
                format!("{}:{}", version.deployment_name, version.build_id)
            }
            (PinnedOverrideBehavior::Pinned, None) => return Err(without_version(of_run)),
        },
        None => match asked.behavior() {
            VersioningBehavior::AutoUpgrade => return Ok(automatic()),
            VersioningBehavior::Unspecified => return Err(Rejection::invalid("override behavior is required")),
            VersioningBehavior::Pinned => match (asked.pinned_version.split_once('.'), &asked.deployment) {
                (Some((deployment, build)), _) => format!("{deployment}:{build}"),
                (None, Some(deployment)) => format!("{}:{}", deployment.series_name, deployment.build_id),
                (None, None) => return Err(without_version(of_run)),
            },
        },
    };
    let message = format!("Pinned version '{version}' is not present in task queue '{task_queue}' of type 'Workflow'");
    Err(Rejection::new(Code::FailedPrecondition, message))
}

fn automatic() -> VersioningOverride {
    VersioningOverride { r#override: Some(Override::AutoUpgrade(true)), ..Default::default() }
}

fn without_version(of_run: Option<&str>) -> Rejection {
    match of_run {
        None => Rejection::invalid("must provide version if override is pinned."),
        Some(workflow_id) => Rejection::new(
            Code::FailedPrecondition,
            format!(
                "must specify a specific pinned override version because workflow with id {workflow_id} has behavior \
                 Unspecified and is not yet pinned to any version"
            ),
        ),
    }
}

/// What the run goes by from its first event on.
pub(super) fn info(asked: Option<&VersioningOverride>) -> Option<WorkflowExecutionVersioningInfo> {
    let versioning_override = Some(asked?.clone());
    Some(WorkflowExecutionVersioningInfo { versioning_override, ..Default::default() })
}

/// What an event says is kept. A run whose override was taken away stays one that knows of versions.
pub(super) fn note(run: &mut Run, given: Option<&VersioningOverride>, unset: bool) {
    if given.is_some() {
        run.detail_mut().versioning_info = info(given);
    } else if unset && of(run.detail()).is_some() {
        run.detail_mut().versioning_info = Some(WorkflowExecutionVersioningInfo::default());
    }
}

/// The override in force.
pub(super) fn of(detail: &RunDetailRow) -> Option<&VersioningOverride> {
    detail.versioning_info.as_ref()?.versioning_override.as_ref()
}

/// As descriptions show it: with the fields of older clients filled in.
#[allow(deprecated, reason = "older clients read these fields")]
pub(crate) fn shown(info: Option<WorkflowExecutionVersioningInfo>) -> Option<WorkflowExecutionVersioningInfo> {
    let mut info = info?;
    if let Some(VersioningOverride { r#override: Some(Override::AutoUpgrade(_)), behavior, .. }) =
        &mut info.versioning_override
    {
        *behavior = VersioningBehavior::AutoUpgrade.into();
    }
    Some(info)
}

/// The search attribute of a run that is not at its workers' word, in the real server's spelling.
pub(crate) fn behavior_shown(detail: &RunDetailRow) -> Option<&'static str> {
    of(detail).map(|_| "AutoUpgrade")
}
