//! Queries and what becomes of them, as the real server was seen to take or refuse them.

use super::*;

fn custom() -> BTreeMap<String, i32> {
    use IndexedValueType::*;
    let kinds =
        [("CText", Text), ("CKw", Keyword), ("CInt", Int), ("CDbl", Double), ("CBool", Bool), ("CDt", Datetime)];
    let mut known: BTreeMap<String, i32> = kinds.into_iter().map(|(n, k)| (n.to_owned(), k.into())).collect();
    known.insert("CKl".to_owned(), KeywordList.into());
    known
}

fn parsed(query: &str) -> Parsed {
    parse(query, Entity::Workflow, &custom()).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn refused(query: &str) -> String {
    match parse(query, Entity::Workflow, &custom()) {
        Ok(parsed) => panic!("{query}: {parsed:?}"),
        Err(rejection) => rejection.message.strip_prefix("invalid query: ").unwrap_or("?").to_owned(),
    }
}

#[test]
fn all_that_the_real_server_takes_is_taken() {
    for query in [
        "",
        "CKw = 'red'",
        "CKw = \"red\"",
        "`CKw` = 'red'",
        "CKw STARTS_WITH 're'",
        "CKw not starts_with 're'",
        "CKw IN ('red','green')",
        "CKw NOT IN ('red')",
        "CKw IS NULL AND NOT CKw IS NOT NULL",
        "CKw BETWEEN 'a' AND 'h' OR CKw NOT BETWEEN 'a' AND 'h'",
        "CText = 'world big' AND CText != 'x'",
        "CInt = 5.0 AND CInt > 4.5 AND CInt BETWEEN -7 AND +5",
        "CDbl = .5 AND CDbl < 15e-1 AND CDbl = 2",
        "CBool = true AND CBool > false AND CBool IN (true)",
        "CDt > 0 AND CDt < '2024-01-02T05:00:00+01:00'",
        "CKl = 'a' AND CKl NOT IN ('a','c')",
        "ExecutionStatus = 'Running' OR ExecutionStatus = 5",
        "ExecutionDuration > '1h' AND ExecutionDuration < '01:00:00' AND ExecutionDuration < 5",
        "ScheduleId = 'x' AND TemporalScheduleId = 'x' AND ScheduledById = 'y' AND TemporalWorkflowId = 'z'",
        "CKw = 'red' && CInt = 5 || CInt = 6",
        "WorkflowId = 'w1' -- comment",
        "WorkflowId = 'it''s' and WorkflowId = 'it\\'s'",
        "WorkflowId = 'w1' GROUP BY ExecutionStatus",
        "group by ExecutionStatus",
    ] {
        parsed(query);
    }
}

#[test]
fn what_it_refuses_is_refused_in_its_words() {
    for (query, message) in [
        ("Nope = 'x'", "invalid search attribute: Nope"),
        ("workflowid = 'x'", "invalid search attribute: workflowid"),
        (
            "CKw LIKE 'r%'",
            "operation is not supported: operator 'LIKE' not supported for Keyword type search attribute 'CKw'",
        ),
        (
            "CText IN ('hello')",
            "operation is not supported: operator 'IN' not supported for Text type search attribute 'CText'",
        ),
        (
            "CKl > 'a'",
            "operation is not supported: operator '>' not supported for KeywordList type search attribute 'CKl'",
        ),
        (
            "CInt STARTS_WITH 5",
            "operation is not supported: operator 'STARTS_WITH' not supported for Int type search attribute 'CInt'",
        ),
        (
            "CInt = '5'",
            "invalid expression: invalid value type for search attribute CInt of type Int: \"5\" (type: string)",
        ),
        (
            "CInt = true",
            "invalid expression: invalid value type for search attribute CInt of type Int: true (type: bool)",
        ),
        (
            "WorkflowId = 5",
            "invalid expression: invalid value type for search attribute WorkflowId of type Keyword: 5 (type: int64)",
        ),
        ("CDt > '2024-01-02'", "invalid expression: unable to parse datetime '2024-01-02'"),
        (
            "CBool BETWEEN false AND true",
            "invalid expression: cannot do range condition on search attribute 'CBool' of type Bool",
        ),
        ("ExecutionStatus = 'running'", "invalid expression: invalid ExecutionStatus value 'running'"),
        ("ExecutionStatus = 99", "invalid expression: invalid ExecutionStatus value 99"),
        (
            "ExecutionDuration < 'x'",
            "invalid expression: invalid duration value for search attribute ExecutionDuration: x",
        ),
        (
            "ExecutionDuration < 1.5",
            "invalid expression: unexpected value type float64 for search attribute ExecutionDuration",
        ),
        ("WorkflowId", "invalid expression: incomplete expression"),
        (
            "WorkflowId = w1",
            "operation is not supported: column name on the right side of comparison expression (did you forget to \
             quote \"w1\"?)",
        ),
        ("WorkflowId = lower('W1')", "operation is not supported: nested func"),
        ("WorkflowId IS TRUE", "invalid expression: 'IS' operator can only be used as 'IS NULL' or 'IS NOT NULL'"),
        ("WorkflowId = 'w1' LIMIT 5", "operation is not supported: 'LIMIT' clause"),
        ("ORDER BY StartTime DESC", "operation is not supported: 'ORDER BY' clause"),
        ("ORDER BY CText", "operation is not supported: unable to sort by search attribute type Text"),
        (
            "GROUP BY WorkflowType",
            "operation is not supported: 'GROUP BY' clause is not supported for search attribute WorkflowType",
        ),
        (
            "GROUP BY ExecutionStatus, WorkflowType",
            "operation is not supported: 'GROUP BY' clause supports only a single field",
        ),
        ("CInt = -(-5)", "invalid expression: unary operator not supported in \"-(-5)\""),
    ] {
        assert_eq!(refused(query), message, "{query}");
    }
    for query in ["WorkflowId = 'w1", "WorkflowId =", "= 'w1'", "WorkflowId = 'w1' AND", "(WorkflowId = 'w1'"] {
        assert!(refused(query).starts_with("malformed SQL query: "), "{query}");
    }
    for query in [
        "WorkflowId = 'w1' ; drop table x",
        "WorkflowId = 'w1' UNION select 1",
        "WorkflowId IN ()",
        "select * from x",
        "where WorkflowId = 'w1'",
        "lower(WorkflowId) = 'w1'",
        "1 = 1",
        "true",
        "WorkflowId = NULL",
        "! WorkflowId = 'w1'",
        "CInt = 5 + 1",
        "CInt = 0x05",
        "WorkflowId <=> 'w1'",
        "WorkflowId = ('w1','w2')",
    ] {
        refused(query);
    }
}

#[test]
fn long_and_deep_queries_are_understood_or_refused() {
    let chain = |count: usize, between: &str| vec!["CInt = 1"; count].join(between);
    let Filter::Or(parts) = parsed(&chain(1500, " OR ")).filter else { panic!("not a chain") };
    assert_eq!(parts.len(), 1500);
    parsed(&chain(300, " AND "));
    parsed(&format!("{}CInt = 1{}", "(".repeat(8), ")".repeat(8)));
    for query in [
        chain(5000, " OR "),
        format!("{}CInt = 1{}", "(".repeat(500), ")".repeat(500)),
        format!("{}CInt = 1", "NOT ".repeat(500)),
        format!("CInt = {}1", "-".repeat(500)),
        format!("CInt IN ({}1)", "(".repeat(500)),
        "(".repeat(200),
    ] {
        refused(&query);
    }
}

#[test]
fn and_binds_closer_than_or_and_not_closer_than_both() {
    let is = |name: &str, number: i64| {
        let field = Field::Named { name: name.into(), kind: IndexedValueType::Int };
        Filter::Is(Condition { field, test: Test::Equal(Value::Number(number)) })
    };
    let filter = parsed("CInt = 1 OR NOT CInt = 2 AND CInt = 3 AND CInt = 4").filter;
    let not = Filter::Not(Box::new(is("CInt", 2)));
    assert_eq!(filter, Filter::Or(vec![is("CInt", 1), Filter::And(vec![not, is("CInt", 3), is("CInt", 4)])]));
    assert!(parsed("TemporalNamespaceDivision = 'x'").divisions);
    assert!(parsed("group by ExecutionStatus").by_status);
}
