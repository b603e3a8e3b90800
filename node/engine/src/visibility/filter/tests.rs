//! Which records a filter selects.

use super::*;

fn row() -> VisibilityRow {
    let keyword = |name: &str, texts: &[&str], kind: IndexedValueType| AttributeRow {
        name: name.into(),
        r#type: kind.into(),
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        ..Default::default()
    };
    VisibilityRow {
        workflow_id: "w1".into(),
        run_id: "r1".into(),
        status: 1,
        started_at: 1_000_999,
        attributes: vec![
            keyword("Color", &["red"], IndexedValueType::Keyword),
            keyword("Tags", &["a", "b"], IndexedValueType::KeywordList),
            keyword("Note", &["Hello big world"], IndexedValueType::Text),
        ],
        ..Default::default()
    }
}

fn named(name: &str, kind: IndexedValueType, test: Test) -> Filter {
    Filter::Is(Condition { field: Field::Named { name: name.into(), kind }, test })
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

#[test]
fn conditions_on_what_is_absent_are_unknown_either_way() {
    let absent = named("Size", IndexedValueType::Int, Test::Equal(Value::Number(5)));
    assert!(!absent.selects(&row()));
    assert!(!Filter::Not(Box::new(absent.clone())).selects(&row()));
    let red = named("Color", IndexedValueType::Keyword, Test::Equal(text("red")));
    assert!(Filter::Or(vec![absent.clone(), red.clone()]).selects(&row()));
    assert!(!Filter::And(vec![absent.clone(), red]).selects(&row()));
    assert!(
        !Filter::Not(Box::new(Filter::Or(vec![
            absent,
            named("Color", IndexedValueType::Keyword, Test::Equal(text("blue")))
        ])))
        .selects(&row())
    );
}

#[test]
fn lists_and_texts_are_never_unknown() {
    let tags = |test| named("Tags", IndexedValueType::KeywordList, test);
    assert!(tags(Test::Equal(text("b"))).selects(&row()));
    assert!(tags(Test::In(vec![text("x"), text("a")])).selects(&row()));
    let others = named("Others", IndexedValueType::KeywordList, Test::Equal(text("b")));
    assert!(Filter::Not(Box::new(others)).selects(&row()));
    let note = |phrases: &[&[&str]]| {
        let phrases = phrases.iter().map(|phrase| phrase.iter().map(|word| (*word).into()).collect()).collect();
        named("Note", IndexedValueType::Text, Test::Contains(phrases))
    };
    assert!(note(&[&["nothing"], &["world"]]).selects(&row()));
    assert!(note(&[&["big", "world"]]).selects(&row()));
    assert!(!note(&[&["hello", "world"]]).selects(&row()));
}

#[test]
fn times_count_in_microseconds() {
    let at = |test| Filter::Is(Condition { field: Field::System(System::StartTime), test });
    assert!(at(Test::Equal(Value::Number(1000))).selects(&row()));
    let closed = Filter::Is(Condition { field: Field::System(System::CloseTime), test: Test::IsNull });
    assert!(closed.selects(&row()));
}
