//! Who may receive a group's snapshot.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn one_at_a_time_receives_a_groups_snapshot() {
    let transport = PeerTransport::new(1, "an incarnation");
    let (told, heard) = mpsc::channel();
    // Beside the test: what waits for its own lock never comes back.
    std::thread::spawn(move || {
        let group = GroupId(3);
        let first = transport.receive_alone(group);
        assert!(first.is_some());
        assert!(transport.receive_alone(group).is_none());
        assert!(transport.receive_alone(group).is_none(), "who is refused gives nobody else's right up");
        assert!(transport.receive_alone(GroupId(4)).is_some());
        drop(first);
        assert!(transport.receive_alone(group).is_some());
        told.send(()).unwrap();
    });
    heard.recv_timeout(Duration::from_secs(20)).expect("all of it, and soon");
}
