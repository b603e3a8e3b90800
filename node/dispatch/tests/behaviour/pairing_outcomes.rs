//! What the leader answers decides about the offer and the poller.
use super::*;

#[tokio::test]
async fn a_pairing_names_task_source_queue_and_a_request_id_of_its_own() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    assert_eq!((pairing.offer(), pairing.source(), pairing.queue()), (&task(1), HERE, &queue()));
    let first = pairing.poller().request_id.clone();
    assert_eq!(first.len(), 36, "a UUID");
    drop(pairing);
    assert_ne!(matched(poll_now(&matcher).await).poller().request_id, first);
}

#[tokio::test]
async fn gone_drops_the_task_and_the_poller_takes_the_next() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    matcher.offer(queue(), task(2), HERE);
    let pairing = matched(poll_now(&matcher).await);
    let pairing = matched(pairing.gone().await);
    assert_eq!(number(&pairing), 2);
    pairing.started();
    assert_eq!(matcher.describe(&queue()).backlog_count_hint, 0);
}

#[tokio::test(start_paused = true)]
async fn the_poller_waits_on_with_its_old_deadline() {
    let matcher = matcher();
    let start = tokio::time::Instant::now();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(matcher.poll(queue(), poller("w", Duration::from_secs(10))).await.unwrap());
    tokio::time::advance(Duration::from_secs(4)).await;
    assert!(matches!(pairing.gone().await, PollOutcome::Empty));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_millis(10_050), "{took:?}");
}

#[tokio::test]
async fn retry_later_forgets_the_task_until_its_leader_offers_it_again() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    let waiting = tokio::spawn(async move { Ok(pairing.retry_later().await) });
    while matcher.describe(&queue()).waiting_polls == 0 {
        tokio::task::yield_now().await;
    }
    matcher.offer(queue(), task(1), HERE);
    assert_eq!(number(&matched(outcome(waiting).await)), 1);
}

/// The old leader could not be asked; the new one has offered the task in the meantime, and must not have to repeat that.
#[tokio::test]
async fn an_offer_made_while_the_old_leader_was_asked_counts() {
    let matcher = matcher();
    matcher.offer(queue(), task(1), HERE);
    let pairing = matched(poll_now(&matcher).await);
    let new_leader = Source { node: 2, ..HERE };
    matcher.offer(queue(), task(1), new_leader);
    let pairing = matched(pairing.retry_later().await);
    assert_eq!((number(&pairing), pairing.source()), (1, new_leader));
}
