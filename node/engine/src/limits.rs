//! Every bound of the system, how they relate, and their names for `--limit NAME=VALUE`.
//!
//! The engine reads its own from the command ([`Bounds`], stamped by the leader where they differ from these defaults); all others
//! belong to the node that enforces them.

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $default:expr;)*) => {
        /// All bounds of a node, by name.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $($(#[$doc])* pub $name: u64,)* }

        impl Default for Limits {
            fn default() -> Self { Self { $($name: $default,)* } }
        }

        impl Limits {
            /// Names in order of declaration.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Sets one bound by name. An unknown name is an error that names its nearest neighbours.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), UnknownLimit> {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return Err(UnknownLimit { name: name.to_owned() }),
                }
                Ok(())
            }

            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

/// `--limit` named something that is not a bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown limit `{name}`; the limits are: {}", Limits::NAMES.join(", "))]
pub struct UnknownLimit {
    pub name: String,
}

const MIB: u64 = 1024 * 1024;

limits! {
    /// One payload, or one set of payloads in a field, in bytes.
    payload_bytes_max = 2 * MIB;
    /// A memo, in bytes.
    memo_bytes_max = 2 * MIB;
    /// One gRPC request, in bytes.
    request_bytes_max = 16 * MIB;
    /// One command of the log, in bytes.
    command_bytes_max = 4 * MIB;
    /// Workflow ids, task queues, types, request ids, in bytes.
    id_bytes_max = 1000;
    /// A run is ended when its history has this many events.
    history_events_max = 51_200;
    /// A run is ended when its history has this many bytes.
    history_bytes_max = 50 * MIB;
    /// Workers are advised to continue as new from this many events.
    suggest_continue_as_new_events = 4096;
    /// Workers are advised to continue as new from this many bytes.
    suggest_continue_as_new_bytes = 4 * MIB;
    pending_activities_max = 2000;
    pending_children_max = 2000;
    pending_signals_max = 2000;
    pending_cancels_max = 2000;
    /// Updates of one run that are admitted and have no outcome yet.
    updates_in_flight_max = 10;
    /// Updates that one run may have had, those in flight included.
    updates_total_max = 2000;
    /// Requests of one run's updates in flight, in bytes.
    updates_in_flight_bytes_max = 20 * MIB;
    /// Batch operations of one namespace that run at a time.
    batch_operations_running_max = 1;
    /// Executions that one batch operation does something to in a second.
    batch_executions_per_second_max = 50;
    /// Waiting polls of one task queue.
    pollers_per_queue_max = 10_000;
    /// Tasks of one queue that a leader has offered and not yet seen started.
    offer_window = 1000;
    /// Pending tasks of one group that a leader holds in memory.
    pending_in_memory_max = 65_536;
    /// Timers of one group that a leader holds in memory.
    timers_in_memory_max = 65_536;
    /// Messages of one group's outbox that a leader holds the names of in memory.
    outbox_in_memory_max = 65_536;
    /// Messages in one delivery to another group.
    outbox_batch_messages_max = 256;
    /// Bytes of messages in one delivery, unless a single message is larger.
    outbox_batch_bytes_max = MIB;
    /// Commands in one Raft entry.
    entry_commands_max = 64;
    /// Bytes in one Raft entry, unless a single command is larger.
    entry_bytes_max = 64 * 1024;
    /// Entries of a group proposed and not yet applied.
    entries_in_flight_max = 4;
    /// Commands waiting in a group's proposer, in bytes.
    proposer_queue_bytes_max = 8 * MIB;
    /// Log entries of one group kept in memory, in bytes, beyond those not yet durable.
    entry_cache_bytes_max = 8 * MIB;
    /// Decoded runs kept in memory for one group, in bytes.
    run_cache_bytes_max = 32 * MIB;
    /// One AppendEntries request, in bytes.
    append_bytes_max = MIB;
    /// Log of one group kept on disk for followers that lag, in bytes.
    log_keep_bytes = 64 * MIB;
    /// Log of one group kept on disk for followers that lag, in seconds.
    log_keep_seconds = 600;
    /// A long poll is answered at the latest after this many milliseconds.
    long_poll_ms_max = 60_000;
    /// A long poll is answered this many milliseconds before its caller's deadline.
    long_poll_tail_ms = 500;
    /// Share of one processor, in thousandths, that a node may spend on holding runs to the invariants after commits; 0 looks at nothing,
    /// 1000 at everything.
    invariants_share_permille = 5;
    /// Seconds between two comparisons of a part of a group's state on all its replicas; 0 compares nothing.
    compare_seconds = 10;
    /// Such a part, in bytes, with 256 for each table of each slot that is looked at.
    compare_bytes_max = 256 * 1024;
    /// Queries waiting for one run.
    queries_per_run_max = 100;
    /// Events in one page of history.
    history_page_events_max = 1000;
    /// Bytes in one page of history.
    history_page_bytes_max = 3 * MIB;
}

const DEFAULT_COMMAND: u64 = 4 * MIB;
const DEFAULT_PAYLOAD: u64 = 2 * MIB;
const _: () =
    assert!(DEFAULT_PAYLOAD * 2 <= DEFAULT_COMMAND, "a command must be able to carry a payload and its envelope");
