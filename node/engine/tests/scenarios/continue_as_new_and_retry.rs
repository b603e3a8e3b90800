//! Chains of runs: continue-as-new, and the workflow retry policy.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn continue_as_new_closes_one_run_and_opens_the_next() {
    let mut w = World::new();
    w.start_with(|r| r.input = Some(payloads("one")));
    w.poll();
    w.pass(2);
    expect!["completed"].assert_eq(&w.complete(vec![continue_as_new("two")]));
    expect![[r#"
        offer workflow 2 attempt 1 on tq
        run-1 next event 6 closed idle
        run-2 next event 3
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        1 WorkflowExecutionStarted input=one task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionContinuedAsNew input=two new-run=run-2
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted input=two task-timeout=10s continued=run-1 initiator=Workflow
        2 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(2));
}

#[test]
fn a_hot_loop_of_continue_as_new_is_slowed_to_one_a_second() {
    let mut w = World::after(vec![continue_as_new("two")]);
    expect![[r#"
        timer +1s
        run-1 next event 6 closed idle
        run-2 next event 2 idle
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        1 WorkflowExecutionStarted input=two task-timeout=10s backoff=1s continued=run-1 initiator=Workflow
    "#]]
    .assert_eq(&w.news_of(2));
    w.pass(1);
    w.fire_timers();
    expect![[r#"
        2 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(2));
    expect!["task 3 attempt 1"].assert_eq(&w.poll());
}

#[test]
fn a_failure_is_retried_until_the_last_attempt() {
    let mut w = World::new();
    w.start_with(|r| {
        r.input = Some(payloads("in"));
        r.retry_policy = Some(retries(2));
    });
    w.poll();
    w.complete(vec![fail_workflow("first")]);
    expect![[r#"
        1 WorkflowExecutionStarted input=in task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionFailed failure="first" retry=InProgress new-run=run-2
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted input=in attempt=2 task-timeout=10s backoff=1s continued=run-1 initiator=Retry continued-failure="first"
    "#]].assert_eq(&w.news_of(2));
    expect!["nothing on offer"].assert_eq(&w.poll());
    w.pass(1);
    w.fire_timers();
    w.poll();
    w.complete(vec![fail_workflow("second")]);
    expect![[r#"
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionFailed failure="second" retry=MaximumAttemptsReached
    "#]]
    .assert_eq(&w.news_of(2));
}

#[test]
fn a_failure_without_a_policy_is_final() {
    let mut w = World::after(vec![fail_workflow("boom")]);
    expect![[r#"
        5 WorkflowExecutionFailed failure="boom" retry=RetryPolicyNotSet
    "#]]
    .assert_eq(&w.news());
}
