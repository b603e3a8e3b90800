//! A bank: money moves between accounts by transfers of two steps with compensation, and none is made or lost.
//!
//! Each account tells, at rest, every booking that it made. A transfer takes from one account and gives to another, or gives back what it
//! took. So each leg of a transfer is booked once at most, a transfer that was done has both its legs, one that was given up has no
//! effect in sum, and the total is what it was (E1, D1).
//!
//! Called by the saga-bank workload.

use std::collections::BTreeMap;

use super::Verdict;

/// One line in an account's book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    pub transfer: String,
    pub leg: Leg,
    /// Negative for what was taken.
    pub amount: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leg {
    Take,
    Give,
    GiveBack,
}

/// A transfer as its run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub from: String,
    pub to: String,
    pub amount: i64,
    pub ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// What was taken was given back, or nothing was taken.
    GivenUp,
    /// Its start was never acknowledged and no run of it is known.
    NeverBegun,
}

pub type Accounts = BTreeMap<String, Vec<Booking>>;

/// `before` is what each account held at first; `accounts` are the books at rest.
pub fn conserved(
    before: &BTreeMap<String, i64>,
    accounts: &Accounts,
    transfers: &BTreeMap<String, Transfer>,
) -> Verdict {
    let mut verdict = Verdict::new("transfers are booked whole and once, and the total is conserved");
    let mut booked: BTreeMap<&str, Vec<(&str, &Booking)>> = BTreeMap::new();
    for (account, bookings) in accounts {
        for booking in bookings {
            booked.entry(&booking.transfer).or_default().push((account, booking));
        }
    }
    for account in before.keys().filter(|account| !accounts.contains_key(*account)) {
        verdict.violate("A1", format!("account {account} could not be read at the end"), Vec::new());
    }
    for (id, transfer) in transfers {
        verdict.looked_at += 1;
        let lines = booked.remove(id.as_str()).unwrap_or_default();
        if let Some(what) = wrong(transfer, &lines) {
            let Transfer { from, to, amount, ended } = transfer;
            let mut evidence = vec![format!("transfer {id} of {amount} from {from} to {to}: {ended:?}")];
            evidence.extend(
                lines.iter().map(|(account, Booking { leg, amount, .. })| format!("{account} booked {leg:?} {amount}")),
            );
            verdict.violate("E1", format!("transfer {id}: {what}"), evidence);
        }
    }
    for (id, lines) in booked {
        let evidence = lines.iter().map(|(account, booking)| format!("{account} booked {booking:?}")).collect();
        verdict.violate("E1", format!("transfer {id} was booked, and nobody asked for it"), evidence);
    }
    let total: i64 = before.values().sum();
    let moved: i64 = accounts.values().flatten().map(|booking| booking.amount).sum();
    if moved != 0 {
        verdict.violate("E1", format!("the total was {total} and is {}", total + moved), Vec::new());
    }
    verdict
}

fn wrong(transfer: &Transfer, lines: &[(&str, &Booking)]) -> Option<String> {
    let Transfer { from, to, amount, ended } = transfer;
    let count = |leg: Leg| lines.iter().filter(|(_, booking)| booking.leg == leg).count();
    let legs = [count(Leg::Take), count(Leg::Give), count(Leg::GiveBack)];
    let right = |(account, booking): &&(&str, &Booking)| match booking.leg {
        Leg::Take => account == from && booking.amount == -amount,
        Leg::Give => account == to && booking.amount == *amount,
        Leg::GiveBack => account == from && booking.amount == *amount,
    };
    if let Some((account, booking)) = lines.iter().find(|line| !right(line)) {
        return Some(format!("{account} booked {:?} {}", booking.leg, booking.amount));
    }
    let fits = match ended {
        Ended::Done => legs == [1, 1, 0],
        Ended::GivenUp => legs == [0, 0, 0] || legs == [1, 0, 1],
        Ended::NeverBegun => legs == [0, 0, 0],
    };
    (!fits).then(|| format!("taken {} times, given {} times, given back {} times", legs[0], legs[1], legs[2]))
}
