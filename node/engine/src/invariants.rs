//! What must hold of a run between commands. Checked after every change in builds with debug assertions.

use crate::run::Run;
use crate::state::StateResult;

pub fn check(_run: &Run) -> StateResult<()> {
    Ok(())
}
