//! Resets, as callers ask for them.

use stanchion_engine::run::Run;
use stanchion_proto::command::ResetWorkflow;
use stanchion_proto::command::command::Kind;
use stanchion_proto::row::ChildRow;
use stanchion_proto::temporal::workflowservice::v1::ResetWorkflowExecutionRequest;

use super::{World, execution};

impl World {
    /// Resets the current run to a point.
    pub fn reset(&mut self, point: i64) -> String {
        self.reset_with(point, |_| {})
    }

    /// Resets the n-th run to a point.
    pub fn reset_run(&mut self, n: usize, point: i64) -> String {
        self.reset_run_with(n, point, |_| {})
    }

    pub fn reset_run_with(
        &mut self,
        n: usize,
        point: i64,
        change: impl FnOnce(&mut ResetWorkflowExecutionRequest),
    ) -> String {
        let run = self.runs[n - 1].clone();
        self.reset_with(point, |request| {
            let named = request.workflow_execution.get_or_insert_default();
            named.workflow_id = run.workflow_id;
            named.run_id = run.run_id;
            change(request);
        })
    }

    /// Children that open runs wait for: the run, the initiated event, the row.
    pub fn pending_children(&self) -> Vec<(String, i64, ChildRow)> {
        let runs = self.runs.iter().filter_map(|key| Run::read(&self.state, key).unwrap()).filter(Run::is_open);
        let children = |run: Run| {
            let of = |(id, row): (&i64, &ChildRow)| (run.key.run_id.clone(), *id, row.clone());
            run.children.iter().map(of).collect::<Vec<_>>()
        };
        runs.flat_map(children).collect()
    }

    pub fn reset_with(&mut self, point: i64, change: impl FnOnce(&mut ResetWorkflowExecutionRequest)) -> String {
        let mut request = ResetWorkflowExecutionRequest {
            workflow_execution: Some(execution("")),
            reason: "why".into(),
            workflow_task_finish_event_id: point,
            request_id: format!("reset-{}", self.log.len()),
            ..Default::default()
        };
        change(&mut request);
        let reply = self.apply(Kind::ResetWorkflow(ResetWorkflow { request: Some(request) }));
        self.shown(&reply)
    }
}
