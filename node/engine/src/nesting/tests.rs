//! Chains of causes at and over their bound.

use super::*;

fn chain(length: usize) -> Failure {
    (1..length).fold(Failure { message: "0".into(), ..Default::default() }, |cause, n| Failure {
        message: n.to_string(),
        cause: Some(Box::new(cause)),
        ..Default::default()
    })
}

fn length(failure: &Failure) -> usize {
    std::iter::successors(Some(failure), |failure| failure.cause.as_deref()).count()
}

#[test]
fn a_chain_within_the_bound_is_left_alone() {
    let mut failure = chain(FAILURE_CHAIN_MAX);
    cut(&mut failure);
    assert_eq!(failure, chain(FAILURE_CHAIN_MAX));
}

#[test]
fn a_longer_chain_is_cut_and_says_so() {
    let mut failure = chain(98);
    cut(&mut failure);
    assert_eq!(length(&failure), FAILURE_CHAIN_MAX);
    let last = std::iter::successors(Some(&failure), |failure| failure.cause.as_deref()).last().unwrap();
    assert_eq!(last.message, "48 (its causes are not kept: a chain of failures may be 50 deep)");
}
