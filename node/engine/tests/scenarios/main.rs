//! Engine scenarios: commands in, events and effects out. They are the documentation of the semantics; each file is one behaviour.
//!
//! After a change that is meant: `UPDATE_EXPECT=1 cargo test -p stanchion-engine --test scenarios`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../scenario/mod.rs"]
mod scenario;

mod a_start_that_reached_nobody_is_taken_back;
mod activities_attempt_by_attempt;
mod activities_from_outside;
mod bad_command_fails_the_task;
mod batch_operations;
mod bounds_end_the_run;
mod cancel_and_terminate;
mod children_of_closed_parents;
mod children_start_and_report;
mod continue_as_new_and_retry;
mod cron_schedules;
mod deleted_runs_leave_nothing;
mod id_policies_decide_about_starts;
mod lists_and_counts;
mod reset_children_are_taken_over;
mod reset_to_a_workflow_task;
mod reset_updates_are_asked_again;
mod schedules;
mod signal_while_task_started_is_buffered;
mod signals_and_cancels_between_runs;
mod signals_once_per_request;
mod standalone_activities;
mod start_task_complete;
mod sticky_queue_and_its_fallback;
mod task_attempts_leave_no_events;
mod time_limits_of_runs_and_tasks;
mod timers_fire_or_are_taken_back;
mod updates_admitted_accepted_completed;
mod updates_and_speculative_tasks;
mod updates_when_runs_close;
mod upserts_and_markers;
mod versioning_overrides;
