use super::*;

#[test]
fn days_become_dates() {
    assert_eq!(civil(0), (1970, 1, 1));
    assert_eq!(civil(11_016), (2000, 2, 29));
    assert_eq!(civil(20_778), (2026, 11, 21));
}
