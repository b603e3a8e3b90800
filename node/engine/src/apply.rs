//! The one entry: a command in, a reply and effects out.

use stanchion_proto::command::Command;

use crate::effects::Effects;
use crate::reply::{Code, Rejection, Reply};
use crate::state::{ShardState, StateResult};
use crate::types::{Features, Position, ShardTime};

/// Applies one command. Equal state, command, position and features give equal state, reply and effects, on every replica.
pub fn apply<S: ShardState>(
    state: &mut S,
    command: &Command,
    _at: Position,
    _features: Features,
) -> StateResult<(Reply, Effects)> {
    let now = state.clock().max(ShardTime(command.now_unix_nanos));
    state.set_clock(now);
    let rejection = Rejection::new(Code::Unimplemented, "this command is not supported by this release");
    Ok((Reply::Rejected(rejection), Effects::default()))
}
