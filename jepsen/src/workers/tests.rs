//! What a worker's file says, as ledger lines.

use super::*;

#[test]
fn a_file_becomes_lines_and_a_torn_last_one_is_left_out() {
    let text = r#"{"e":"start","wf":"w","run":"r","step":2,"attempt":1,"worker":"w1","t":10.5,"deadline":20.0,"activity_id":"7","token":"ab","started_at":3,"start_to_close":8,"given":null}
{"e":"beat","wf":"w","run":"r","step":2,"attempt":1,"worker":"w1","t":10.6,"details":2}
{"e":"end","wf":"w","run":"r","step":2,"attempt":1,"worker":"w1","t":11.0,"outcome":"returned","result":"x"}
{"e":"ack","wf":"w","run":"r","step":2,"attempt":1,"worker":"w1","t":11.1,"status":"acked"}
{"e":"start","wf":"w","ru"#;
    let lines = lines_of(text, 10_000_000_000);
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.activity_id == "7" && line.token == "ab"));
    assert_eq!(lines[0].at, 500_000_000);
    assert!(matches!(&lines[0].what, What::Began { handed } if handed.started_at == 3 && handed.start_to_close == 8));
    assert!(matches!(&lines[2].what, What::Ended { outcome: Outcome::Completed(value) } if value == "x"));
    assert_eq!(lines[3].what, What::Acknowledged);
}
