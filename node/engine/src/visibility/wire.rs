//! Filters as they go from the node that parsed them to the leaders of all groups.

use stanchion_proto::node::visibility_filter::Kind;
use stanchion_proto::node::visibility_value::Value as WireValue;
use stanchion_proto::node::{VisibilityFilter, VisibilityValue};
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use super::filter::{Condition, Field, Filter, System, Test, Value};

impl Filter {
    pub fn to_wire(&self) -> VisibilityFilter {
        let group = |kind: Kind, parts: &[Filter]| VisibilityFilter {
            kind: kind.into(),
            parts: parts.iter().map(Self::to_wire).collect(),
            ..Default::default()
        };
        match self {
            Self::All => VisibilityFilter::default(),
            Self::And(parts) => group(Kind::And, parts),
            Self::Or(parts) => group(Kind::Or, parts),
            Self::Not(part) => group(Kind::Not, std::slice::from_ref(part)),
            Self::Is(condition) => condition.to_wire(),
        }
    }

    /// None for what this release does not know.
    pub fn from_wire(wire: &VisibilityFilter) -> Option<Self> {
        let parts = || wire.parts.iter().map(Self::from_wire).collect::<Option<Vec<_>>>();
        let values = || wire.values.iter().map(value_from).collect::<Option<Vec<_>>>();
        let one = || wire.values.first().and_then(value_from);
        let test = match Kind::try_from(wire.kind).ok()? {
            Kind::All => return Some(Self::All),
            Kind::And => return Some(Self::And(parts()?)),
            Kind::Or => return Some(Self::Or(parts()?)),
            Kind::Not => return Some(Self::Not(Box::new(parts()?.pop()?))),
            Kind::Equal => Test::Equal(one()?),
            Kind::Less => Test::Less(one()?),
            Kind::LessOrEqual => Test::LessOrEqual(one()?),
            Kind::Greater => Test::Greater(one()?),
            Kind::GreaterOrEqual => Test::GreaterOrEqual(one()?),
            Kind::In => Test::In(values()?),
            Kind::Between => match <[Value; 2]>::try_from(values()?) {
                Ok([from, to]) => Test::Between(from, to),
                Err(_) => return None,
            },
            Kind::IsNull => Test::IsNull,
            Kind::StartsWith => match one()? {
                Value::Text(prefix) => Test::StartsWith(prefix),
                _ => return None,
            },
            // Each phrase as its words with spaces between.
            Kind::Contains => Test::Contains(
                values()?
                    .into_iter()
                    .map(|value| match value {
                        Value::Text(phrase) => Some(phrase.split(' ').map(str::to_owned).collect()),
                        _ => None,
                    })
                    .collect::<Option<_>>()?,
            ),
        };
        let field = match wire.system {
            0 => Field::Named { name: wire.name.clone(), kind: IndexedValueType::try_from(wire.r#type).ok()? },
            number => Field::System(System::ALL.into_iter().find(|system| *system as u32 == number)?),
        };
        Some(Self::Is(Condition { field, test }))
    }
}

impl Condition {
    fn to_wire(&self) -> VisibilityFilter {
        let one = |value: &Value| vec![value_to(value)];
        let (kind, values) = match &self.test {
            Test::Equal(value) => (Kind::Equal, one(value)),
            Test::Less(value) => (Kind::Less, one(value)),
            Test::LessOrEqual(value) => (Kind::LessOrEqual, one(value)),
            Test::Greater(value) => (Kind::Greater, one(value)),
            Test::GreaterOrEqual(value) => (Kind::GreaterOrEqual, one(value)),
            Test::In(values) => (Kind::In, values.iter().map(value_to).collect()),
            Test::Between(from, to) => (Kind::Between, vec![value_to(from), value_to(to)]),
            Test::IsNull => (Kind::IsNull, Vec::new()),
            Test::StartsWith(prefix) => (Kind::StartsWith, one(&Value::Text(prefix.clone()))),
            Test::Contains(phrases) => {
                (Kind::Contains, phrases.iter().map(|phrase| value_to(&Value::Text(phrase.join(" ")))).collect())
            }
        };
        let (system, name, r#type) = match &self.field {
            Field::System(system) => (*system as u32, String::new(), 0),
            Field::Named { name, kind } => (0, name.clone(), (*kind).into()),
        };
        VisibilityFilter { kind: kind.into(), parts: Vec::new(), system, name, r#type, values }
    }
}

fn value_to(value: &Value) -> VisibilityValue {
    let value = match value {
        Value::Text(text) => WireValue::Text(text.clone()),
        Value::Number(number) => WireValue::Number(*number),
        Value::Double(double) => WireValue::Double(*double),
    };
    VisibilityValue { value: Some(value) }
}

fn value_from(wire: &VisibilityValue) -> Option<Value> {
    Some(match wire.value.as_ref()? {
        WireValue::Text(text) => Value::Text(text.clone()),
        WireValue::Number(number) => Value::Number(*number),
        WireValue::Double(double) => Value::Double(*double),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_arrive_as_they_were_sent() {
        let is = |field, test| Filter::Is(Condition { field, test });
        let color = Field::Named { name: "Color".into(), kind: IndexedValueType::Keyword };
        let filter = Filter::And(vec![
            is(color.clone(), Test::In(vec![Value::Text("red".into()), Value::Text("blue".into())])),
            Filter::Not(Box::new(is(Field::System(System::CloseTime), Test::IsNull))),
            Filter::Or(vec![
                is(Field::System(System::HistoryLength), Test::Between(Value::Number(-1), Value::Number(7))),
                is(color.clone(), Test::StartsWith("r".into())),
                is(color, Test::Contains(vec![vec!["a".into(), "b".into()]])),
            ]),
            Filter::All,
        ]);
        assert_eq!(Filter::from_wire(&filter.to_wire()), Some(filter));
    }
}
