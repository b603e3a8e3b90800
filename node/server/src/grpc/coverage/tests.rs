//! The compatibility page is what the tables say.

use std::fmt::Write;

use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");

const HEAD: &str = "# What of Temporal's API is served\n\n\
    Every method of both services, generated from the server's own tables. A method that is not served answers `UNIMPLEMENTED`. To \
    write this page\nanew: `STANCHION_WRITE_DOCS=1 cargo nextest run --workspace coverage`.\n";

#[test]
fn the_compatibility_page_says_what_the_tables_say() {
    let page = page();
    if std::env::var_os("STANCHION_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert_eq!(written, page, "docs/compatibility.md is out of date; STANCHION_WRITE_DOCS=1 writes it anew");
}

#[test]
fn only_served_methods_are_called_partly_served() {
    for (method, _) in PARTLY {
        assert!(serves(method), "{method} is not served");
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, service) in [("WorkflowService", WORKFLOW_SERVICE), ("OperatorService", OPERATOR_SERVICE)] {
        let (served, all) = (service.served.len(), service.served.len() + service.unserved.len());
        writeln!(page, "\n## {title}: {served} of {all}\n\n| Method | Served | Missing |\n|---|---|---|").unwrap();
        let mut methods: Vec<_> = service.served.iter().map(|request| (name(request), true)).collect();
        methods.extend(service.unserved.iter().map(|request| (name(request), false)));
        methods.sort_unstable();
        for (method, served) in methods {
            let missing = PARTLY.iter().find(|(partly, _)| *partly == method).map_or("", |(_, missing)| missing);
            let how = match (served, missing) {
                (false, _) => "no",
                (true, "") => "yes",
                (true, _) => "partly",
            };
            writeln!(page, "| `{method}` | {how} | {missing} |").unwrap();
        }
    }
    page
}
