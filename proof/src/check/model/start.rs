//! One workflow id: which run of it is open, or how the last one ended, under all policies for ids that are used again (A1-A5).
//!
//! A run is known by the number that its start carried (in its memo, so that every answer about the run can be told by it), not by the
//! id that the server gave it: so a start whose answer was lost is known when its run is seen. That number and run id belong to one
//! another one to one is a rule apart (A2), which [`numbers_match_runs`] judges.
//!
//! | f | asks | is answered |
//! |---|---|---|
//! | `start` | `{"n", "reuse", "conflict"}` | `{"n", "started"}`, or `{"refused": n}`: the run in the way |
//! | `signal-with-start` | the same | the same |
//! | `signal` | | `{"refused": true}`: nothing is open; else anything |
//! | `describe` | | `{"n", "status"}`, or `{"none": true}`: there never was a run |
//! | `terminate`, `complete` | `{"n"}`: that run; without it the open one (`terminate` only) | `{"refused": true}`: it was not open; else anything |
//!
//! `reuse` is `allow`, `failed-only`, `reject` or `terminate`; `conflict` is `fail`, `use` or `terminate`; `status` is `running`,
//! `completed` or `terminated`. A refusal is an answer and is journaled as `ok`; `fail` is left for what had no effect and tells nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::field;
use crate::check::Verdict;
use crate::check::linearizable::Model;
use crate::journal::Operation;

/// No id has a run at first.
#[derive(Clone, Copy, Debug)]
pub struct StartRegister;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Unused,
    Open(u64),
    Closed(u64, Ended),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    Completed,
    Terminated,
}

/// What an id may be used for while its last run is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Allow,
    FailedOnly,
    Reject,
}

/// What happens to a run that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    Fail,
    Use,
    Terminate,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Start {
        n: u64,
        reuse: Reuse,
        conflict: Conflict,
        answer: Option<Started>,
    },
    Signal {
        taken: bool,
    },
    Describe(State),
    /// Ends one run, or with none the open one.
    End {
        n: Option<u64>,
        how: Ended,
        taken: Option<bool>,
    },
    /// Asked, and nothing is known of an answer, nor would it change anything.
    Nothing,
}

/// How a start was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    Anew(u64),
    /// The run that was open already was handed out.
    Found(u64),
    /// That run was in the way.
    Refused(u64),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Unused => write!(f, "no run"),
            State::Open(n) => write!(f, "run {n} open"),
            State::Closed(n, Ended::Completed) => write!(f, "run {n} completed"),
            State::Closed(n, Ended::Terminated) => write!(f, "run {n} terminated"),
        }
    }
}

impl Model for StartRegister {
    type Call = Call;
    type State = State;

    fn initial(&self, _: &str) -> State {
        State::Unused
    }

    fn call(&self, operation: &Operation) -> Result<Option<Call>, String> {
        if operation.failed() {
            return Ok(None);
        }
        let (input, answer) = (&operation.input, operation.ok());
        let refused = answer.map(|answer| answer.get("refused").is_some());
        Ok(Some(match operation.f.as_str() {
            "start" | "signal-with-start" => start(input, answer)?,
            "signal" => match refused {
                Some(refused) => Call::Signal { taken: !refused },
                None => Call::Nothing,
            },
            "describe" => match answer {
                Some(answer) => Call::Describe(described(answer)?),
                None => Call::Nothing,
            },
            "terminate" => Call::End {
                n: input.get("n").and_then(Value::as_u64),
                how: Ended::Terminated,
                taken: refused.map(|no| !no),
            },
            "complete" => {
                Call::End { n: Some(number(input, "n")?), how: Ended::Completed, taken: refused.map(|no| !no) }
            }
            _ => return Ok(None),
        }))
    }

    fn step(&self, state: &State, call: &Call) -> Option<State> {
        match call {
            Call::Start { n, reuse, conflict, answer } => {
                let (after, given) = begin(state, *n, *reuse, *conflict);
                answer.is_none_or(|answer| answer == given).then_some(after)
            }
            Call::Signal { taken } => (matches!(state, State::Open(_)) == *taken).then(|| state.clone()),
            Call::Describe(seen) => (seen == state).then(|| state.clone()),
            Call::End { n, how, taken } => {
                let open = match state {
                    State::Open(open) if n.is_none_or(|n| n == *open) => Some(*open),
                    State::Open(_) | State::Closed(..) | State::Unused => None,
                };
                let as_seen = taken.is_none_or(|taken| taken == open.is_some());
                as_seen.then(|| open.map_or_else(|| state.clone(), |open| State::Closed(open, *how)))
            }
            Call::Nothing => Some(state.clone()),
        }
    }

    fn reads(&self, call: &Call) -> bool {
        match call {
            Call::Signal { .. } | Call::Describe(_) | Call::Nothing => true,
            Call::Start { answer, .. } => matches!(answer, Some(Started::Found(_) | Started::Refused(_))),
            Call::End { taken, .. } => *taken == Some(false),
        }
    }
}

/// A start by the rules: the state after it, and its answer.
fn begin(state: &State, n: u64, reuse: Reuse, conflict: Conflict) -> (State, Started) {
    let anew = (State::Open(n), Started::Anew(n));
    match state {
        State::Unused => anew,
        State::Open(open) => match conflict {
            Conflict::Fail => (state.clone(), Started::Refused(*open)),
            Conflict::Use => (state.clone(), Started::Found(*open)),
            Conflict::Terminate => anew,
        },
        State::Closed(last, ended) => {
            let allowed = match (reuse, ended) {
                (Reuse::Allow, _) | (Reuse::FailedOnly, Ended::Terminated) => true,
                (Reuse::FailedOnly, Ended::Completed) | (Reuse::Reject, _) => false,
            };
            if allowed { anew } else { (state.clone(), Started::Refused(*last)) }
        }
    }
}

fn start(input: &Value, answer: Option<&Value>) -> Result<Call, String> {
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
    let (reuse, conflict) = match (text("reuse"), text("conflict")) {
        // The old way to say both: what is open goes, and what is closed is no hindrance.
        ("terminate", _) => (Reuse::Allow, Conflict::Terminate),
        (reuse, conflict) => (
            match reuse {
                "allow" => Reuse::Allow,
                "failed-only" => Reuse::FailedOnly,
                "reject" => Reuse::Reject,
                other => return Err(format!("{other:?} is no policy for ids that were used")),
            },
            match conflict {
                "fail" => Conflict::Fail,
                "use" => Conflict::Use,
                "terminate" => Conflict::Terminate,
                other => return Err(format!("{other:?} is no policy for ids in use")),
            },
        ),
    };
    let answer = match answer {
        None => None,
        Some(answer) if answer.get("refused").is_some() => Some(Started::Refused(number(answer, "refused")?)),
        Some(answer) => {
            let run = number(answer, "n")?;
            let said = field(answer, "started")?.as_bool().unwrap_or(false);
            // A signal with start whose first answer was lost finds, when it is repeated, the run that it started itself.
            let anew = said || run == number(input, "n")?;
            Some(if anew { Started::Anew(run) } else { Started::Found(run) })
        }
    };
    Ok(Call::Start { n: number(input, "n")?, reuse, conflict, answer })
}

fn described(answer: &Value) -> Result<State, String> {
    if answer.get("none").is_some() {
        return Ok(State::Unused);
    }
    let n = number(answer, "n")?;
    match field(answer, "status")?.as_str().unwrap_or_default() {
        "running" => Ok(State::Open(n)),
        "completed" => Ok(State::Closed(n, Ended::Completed)),
        "terminated" => Ok(State::Closed(n, Ended::Terminated)),
        other => Err(format!("nobody ended the run as {other:?}")),
    }
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    field(value, name)?.as_u64().ok_or_else(|| format!("{name} of {value} is no number"))
}

/// A2: one start has one run, and one run comes of one start. `pairs` are (number of the start, run id) as any answer told them.
pub fn numbers_match_runs<'a>(pairs: impl IntoIterator<Item = (u64, &'a str)>) -> Verdict {
    let mut verdict = Verdict::new("one start, one run");
    let (mut runs, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    for (n, run) in pairs {
        verdict.looked_at += 1;
        let known = *runs.entry(n).or_insert(run);
        if known != run {
            let evidence = vec![format!("start {n} has run {known}"), format!("start {n} has run {run}")];
            verdict.violate("A2", format!("start {n} has two runs"), evidence);
        }
        let known = *numbers.entry(run).or_insert(n);
        if known != n {
            let evidence =
                vec![format!("run {run} is that of start {known}"), format!("run {run} is that of start {n}")];
            verdict.violate("A2", format!("run {run} comes of two starts"), evidence);
        }
    }
    verdict
}
