//! Offers come from the leaders of many groups, on many nodes.
use super::*;

const ELSEWHERE: Source = Source { node: 2, group: GroupId(2) };

#[tokio::test]
async fn a_source_that_is_over_takes_its_offers_along() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    matcher.offer(queue(), task(2), ELSEWHERE);
    matcher.drop_source(HERE);
    assert_eq!(take_all(&matcher).await, [2]);
}

#[tokio::test]
async fn a_node_that_is_lost_takes_the_offers_of_all_its_groups_along() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    matcher.offer(queue(), task(2), Source { group: GroupId(7), ..HERE });
    matcher.offer(queue(), task(3), ELSEWHERE);
    matcher.drop_node(HERE.node);
    assert_eq!(take_all(&matcher).await, [3]);
}

#[tokio::test]
async fn the_next_leader_takes_over_what_the_last_one_offered() {
    let matcher = matcher();
    let next = Source { node: 3, ..HERE };
    matcher.offer(queue(), task(1), HERE);
    matcher.offer(queue(), task(1), next);
    matcher.drop_source(HERE);
    assert_eq!(matched(poll_now(&matcher).await).source(), next);
}

#[tokio::test]
async fn a_task_whose_source_went_while_it_was_paired_does_not_come_back() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    matcher.drop_source(HERE);
    drop(pairing);
    assert_eq!(matcher.describe(&queue()).backlog_count_hint, 0);

    matcher.offer(queue(), task(1), ELSEWHERE);
    assert_eq!(take_all(&matcher).await, [1], "its next leader offers it anew");
}
