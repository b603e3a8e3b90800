//! Messages between the runs of a world, delivered as a leader does: at least once, and each of them twice.

use stanchion_engine::effects::{Effects, OutboxKey};
use stanchion_engine::outbox;
use stanchion_engine::reply::Reply;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{DeliverOutbox, OutboxDelivery};

use super::World;
impl World {
    /// Delivers the messages that wait, and those that they cause, until none is left. Each delivery comes twice, as it may.
    pub fn deliver(&mut self) -> String {
        let mut said = Vec::new();
        while !self.outbox.is_empty() {
            let (reply, _) = (self.deliver_once(), self.redeliver());
            said.push(reply);
        }
        said.join("; ")
    }

    /// Delivers the messages that wait now.
    pub fn deliver_once(&mut self) -> String {
        let keys: Vec<_> = self.outbox.iter().copied().collect();
        self.deliver_these(&keys)
    }

    /// Delivers some of the messages that wait.
    pub fn deliver_these(&mut self, keys: &[OutboxKey]) -> String {
        let deliveries: Vec<_> = keys.iter().map(|key| self.delivery(*key)).collect();
        self.last_delivery = deliveries.clone();
        let reservations = std::mem::take(&mut self.reservations);
        let reply = self.apply(Kind::DeliverOutbox(DeliverOutbox { deliveries, acknowledge: true, reservations }));
        let Reply::Delivered { marks } = &reply else { panic!("a delivery was answered with {reply:?}") };
        let is_marked = |key: &OutboxKey| {
            let same = |mark: &&OutboxKey| (mark.source, mark.destination) == (key.source, key.destination);
            marks.iter().find(same).is_some_and(|mark| key.sequence <= mark.sequence)
        };
        self.outbox.retain(|key| !is_marked(key));
        self.answer(&reply)
    }

    /// The last delivery once more, as after a lost answer: nothing may change.
    pub fn redeliver(&mut self) {
        // The clock moves even by a command that does nothing.
        self.fire(&[]);
        let deliveries = self.last_delivery.clone();
        let before = self.state.hash();
        let deliver = DeliverOutbox { deliveries, acknowledge: true, ..Default::default() };
        self.apply(Kind::DeliverOutbox(deliver));
        assert_eq!(self.effects, Effects::default(), "a message was applied twice");
        assert_eq!(before, self.state.hash(), "a message was applied twice");
    }

    fn delivery(&self, key: OutboxKey) -> OutboxDelivery {
        OutboxDelivery {
            source_slot: key.source.0.into(),
            destination_slot: key.destination.0.into(),
            sequence: key.sequence,
            row: outbox::message(&self.state, key).unwrap(),
        }
    }
}
