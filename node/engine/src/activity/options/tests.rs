//! Which options a mask takes over, and what is refused.

use super::*;

fn row() -> ActivityRow {
    ActivityRow {
        activity_id: "a".into(),
        activity_type: "t".into(),
        task_queue: "q".into(),
        start_to_close_timeout: 30,
        retry_policy: Some(retry::with_defaults(None)),
        ..Default::default()
    }
}

fn of_run() -> Rules {
    Rules { standalone: false, run_timeout: 0 }
}

#[test]
fn only_what_the_mask_names_is_taken_and_time_outs_are_cut_to_fit() {
    let given = ActivityOptions {
        schedule_to_close_timeout: Some(duration(20)),
        heartbeat_timeout: Some(duration(5)),
        ..Default::default()
    };
    let options = merged(&row(), &given, &["scheduleToCloseTimeout".into()], &of_run()).unwrap();
    let times = [options.schedule_to_close_timeout, options.start_to_close_timeout, options.heartbeat_timeout];
    assert_eq!(times.map(|time| nanos(time.as_ref())), [20, 20, 0]);
}

#[test]
fn a_path_that_nobody_knows_is_ignored_or_refused() {
    let given = ActivityOptions::default();
    assert!(merged(&row(), &given, &["fooBar".into()], &of_run()).is_ok());
    let refused = merged(&row(), &given, &["foo_bar".into()], &Rules { standalone: true, run_timeout: 0 });
    assert_eq!(refused.unwrap_err().message, "unsupported update_mask path: \"foo_bar\"");
}

#[test]
fn an_activity_keeps_a_closing_time_out() {
    let refused = merged(&row(), &ActivityOptions::default(), &["start_to_close_timeout".into()], &of_run());
    assert!(refused.unwrap_err().message.starts_with("a valid StartToCloseTimeout or ScheduleToCloseTimeout"));
}
