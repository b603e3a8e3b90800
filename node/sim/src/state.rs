//! What a node's replica of a group holds, as one digest.
//!
//! Called by `seed`, when nothing is written any more.

use stanchion_store::CommittedReader;

/// Equal for two replicas exactly when their rows are.
///
/// # Errors
/// The store could not be read.
pub fn digest(reader: &CommittedReader) -> anyhow::Result<[u8; 32]> {
    reader.snapshot().hash().map_err(|fault| anyhow::anyhow!("a state could not be read: {fault:?}"))
}
