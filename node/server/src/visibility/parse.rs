//! From a query's syntax tree to a typed filter: names resolved, values checked against their attribute's type, in the real server's words.
//!
//! Called by [`super`] on the node that the client is connected to.

use std::collections::BTreeMap;

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value as Sql, ValueWithSpan};
use stanchion_engine::Rejection;
use stanchion_engine::validate::search_attributes::everywhere;
use stanchion_engine::visibility::filter::{Condition, Field, System, Test, Value};
use stanchion_engine::visibility::keys::ordered_bits;
use stanchion_engine::visibility::{DIVISION, Entity, Filter, attributes};
use stanchion_proto::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus};

use super::sql::{self, NOT_STARTS_WITH, STARTS_WITH};
use super::values::{self, Literal};

/// A query, understood.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    pub filter: Filter,
    /// It names the namespace division.
    pub divisions: bool,
    /// Counts are wanted by status.
    pub by_status: bool,
}

/// Understands a query. `custom` are the namespace's own attributes.
pub fn parse(query: &str, entity: Entity, custom: &BTreeMap<String, i32>) -> Result<Parsed, Rejection> {
    let here = || Names { entity, custom, divisions: false }.parse(query);
    let parsed = if query.len() <= SHORT_BYTES { here() } else { with_deep_stack(here) };
    parsed.map_err(|why| Rejection::invalid(format!("invalid query: {why}")))
}

/// So short a query has too few conditions to be a danger to the stack.
const SHORT_BYTES: usize = 256;
/// For each condition that a query may have, and some.
const STACK_BYTES: usize = (sql::CONDITIONS_MAX + 256) * 64 * 1024;

/// The syntax tree of a chain of conditions is as deep as the chain is long, and is walked over and dropped level by level.
fn with_deep_stack<T: Send>(work: impl FnOnce() -> Understood<T> + Send) -> Understood<T> {
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let outcome = deep.map_err(|error| error.to_string())?;
        outcome.join().unwrap_or_else(|_| Err("it could not be understood".to_owned()))
    })
}

struct Names<'a> {
    entity: Entity,
    custom: &'a BTreeMap<String, i32>,
    divisions: bool,
}

/// An attribute as a query names it.
struct Column {
    alias: String,
    field: Field,
    kind: IndexedValueType,
}

type Understood<T> = Result<T, String>;

fn unsupported<T>(what: impl std::fmt::Display) -> Understood<T> {
    Err(format!("operation is not supported: {what}"))
}

pub(super) fn invalid<T>(what: impl std::fmt::Display) -> Understood<T> {
    Err(format!("invalid expression: {what}"))
}

impl Names<'_> {
    fn parse(&mut self, query: &str) -> Understood<Parsed> {
        let clauses = sql::clauses(query).map_err(|why| format!("malformed SQL query: {why}"))?;
        if clauses.has_limit {
            return unsupported("'LIMIT' clause");
        }
        let filter = match &clauses.filter {
            Some(expr) => self.filter(expr)?,
            None => Filter::All,
        };
        let by_status = self.group_by(&clauses.group_by)?;
        for expr in &clauses.order_by {
            let column = self.column(expr)?;
            if column.kind == IndexedValueType::Text {
                return unsupported("unable to sort by search attribute type Text");
            }
        }
        if !clauses.order_by.is_empty() {
            return unsupported("'ORDER BY' clause");
        }
        Ok(Parsed { filter, divisions: self.divisions, by_status })
    }

    fn group_by(&mut self, by: &[Expr]) -> Understood<bool> {
        match by {
            [] => Ok(false),
            [expr] => {
                let column = self.column(expr)?;
                if column.field != Field::System(System::ExecutionStatus) {
                    let alias = column.alias;
                    return unsupported(format!("'GROUP BY' clause is not supported for search attribute {alias}"));
                }
                Ok(true)
            }
            _ => unsupported("'GROUP BY' clause supports only a single field"),
        }
    }

    fn filter(&mut self, expr: &Expr) -> Understood<Filter> {
        match expr {
            Expr::Nested(inner) => self.filter(inner),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => Ok(Filter::Not(Box::new(self.filter(expr)?))),
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::And | BinaryOperator::PGOverlap => {
                    let (mut parts, right) = (all_of(self.filter(left)?), self.filter(right)?);
                    parts.extend(all_of(right));
                    Ok(Filter::And(parts))
                }
                BinaryOperator::Or | BinaryOperator::StringConcat => {
                    let (mut parts, right) = (any_of(self.filter(left)?), self.filter(right)?);
                    parts.extend(any_of(right));
                    Ok(Filter::Or(parts))
                }
                op => {
                    let column = self.column(left)?;
                    comparison(&column, &operator_name(op), right)
                }
            },
            Expr::InList { expr, list, negated } => {
                let column = self.column(expr)?;
                let values = list.iter().map(|item| column.value(item)).collect::<Understood<Vec<_>>>()?;
                if column.kind == IndexedValueType::Text {
                    return not_supported(&column, if *negated { "NOT IN" } else { "IN" });
                }
                let test = Test::In(values.into_iter().filter_map(Given::exact).collect());
                Ok(negated_if(*negated, column.is(test)))
            }
            Expr::Between { expr, negated, low, high } => {
                let column = self.column(expr)?;
                Ok(negated_if(*negated, between(&column, low, high)?))
            }
            Expr::IsNull(expr) => Ok(self.column(expr)?.is(Test::IsNull)),
            Expr::IsNotNull(expr) => Ok(negated_if(true, self.column(expr)?.is(Test::IsNull))),
            Expr::IsTrue(expr) | Expr::IsNotTrue(expr) | Expr::IsFalse(expr) | Expr::IsNotFalse(expr) => {
                self.column(expr)?;
                invalid("'IS' operator can only be used as 'IS NULL' or 'IS NOT NULL'")
            }
            Expr::Like { expr, pattern, negated, .. } => {
                let column = self.column(expr)?;
                column.value(pattern)?;
                not_supported(&column, if *negated { "NOT LIKE" } else { "LIKE" })
            }
            Expr::RLike { expr, pattern, negated, .. } => {
                let column = self.column(expr)?;
                column.value(pattern)?;
                not_supported(&column, if *negated { "NOT REGEXP" } else { "REGEXP" })
            }
            Expr::Function(_) => unsupported("function expression"),
            Expr::Identifier(name) if name.quote_style.is_none() && is_operator(&name.value) => {
                Err(format!("malformed SQL query: syntax error near '{}'", name.value))
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => invalid("incomplete expression"),
            other => unsupported(format!("expression `{other}`")),
        }
    }

    fn column(&mut self, expr: &Expr) -> Understood<Column> {
        let alias = match expr {
            Expr::Identifier(name) => name.value.clone(),
            Expr::CompoundIdentifier(names) => {
                names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(".")
            }
            other => return invalid(format!("must be a column name but was `{other}`")),
        };
        let Some((field, kind)) = self.resolve(&alias) else {
            return Err(format!("invalid search attribute: {alias}"));
        };
        if matches!(&field, Field::Named { name, .. } if name == DIVISION) {
            self.divisions = true;
        }
        Ok(Column { alias, field, kind })
    }

    /// Custom names first, then the server's, then with `Temporal` put before the name or taken away.
    fn resolve(&self, alias: &str) -> Option<(Field, IndexedValueType)> {
        if let Some(kind) = self.custom.get(alias).and_then(|kind| IndexedValueType::try_from(*kind).ok()) {
            return Some((Field::Named { name: alias.to_owned(), kind }, kind));
        }
        let bare = alias.strip_prefix("Temporal");
        let by_entity = match (self.entity, alias) {
            (Entity::Activity, "ActivityId") => Some("WorkflowId"),
            (Entity::Activity, "ActivityType") => Some("WorkflowType"),
            (Entity::Schedule, "TemporalSystemExecutionStatus") => Some("ExecutionStatus"),
            _ => None,
        };
        by_entity.and_then(field_of).or_else(|| field_of(alias)).or_else(|| match bare {
            _ if bare.unwrap_or(alias) == "ScheduleId" => field_of("WorkflowId"),
            Some(bare) => field_of(bare),
            None => field_of(&format!("Temporal{alias}")),
        })
    }
}

fn field_of(name: &str) -> Option<(Field, IndexedValueType)> {
    let kind = everywhere(name)?;
    let system = System::ALL.into_iter().find(|system| format!("{system:?}") == name);
    Some((system.map_or_else(|| Field::Named { name: name.to_owned(), kind }, Field::System), kind))
}

fn is_operator(word: &str) -> bool {
    ["and", "or", "not", "xor"].contains(&word.to_ascii_lowercase().as_str())
}

fn all_of(filter: Filter) -> Vec<Filter> {
    match filter {
        Filter::And(parts) => parts,
        one => vec![one],
    }
}

fn any_of(filter: Filter) -> Vec<Filter> {
    match filter {
        Filter::Or(parts) => parts,
        one => vec![one],
    }
}

fn negated_if(negated: bool, filter: Filter) -> Filter {
    if negated { Filter::Not(Box::new(filter)) } else { filter }
}

/// As messages name an operator.
fn operator_name(op: &BinaryOperator) -> String {
    match op {
        BinaryOperator::NotEq => "!=".to_owned(),
        BinaryOperator::Custom(name) => name.clone(),
        op => op.to_string(),
    }
}

fn not_supported<T>(column: &Column, operator: &str) -> Understood<T> {
    let kind = attributes::type_name(column.kind);
    let alias = &column.alias;
    unsupported(format!("operator '{operator}' not supported for {kind} type search attribute '{alias}'"))
}

/// A value as given, where it may lie between two that the attribute can have.
enum Given {
    Exact(Value),
    /// Whole numbers are compared with a fraction: it lies above this one.
    Above(i64),
}

impl Given {
    fn exact(self) -> Option<Value> {
        match self {
            Self::Exact(value) => Some(value),
            Self::Above(_) => None,
        }
    }
}

fn comparison(column: &Column, operator: &str, right: &Expr) -> Understood<Filter> {
    let given = column.value(right)?;
    match column.kind {
        IndexedValueType::Text => return words(column, operator, given),
        IndexedValueType::KeywordList if !matches!(operator, "=" | "!=") => return not_supported(column, operator),
        IndexedValueType::Keyword => {}
        _ if matches!(operator, STARTS_WITH | NOT_STARTS_WITH) => return not_supported(column, operator),
        _ => {}
    }
    let value = match given {
        Given::Exact(value) => value,
        Given::Above(whole) => return fraction(column, operator, whole),
    };
    let test = match operator {
        "=" | "!=" => Test::Equal(value),
        "<" => Test::Less(value),
        "<=" => Test::LessOrEqual(value),
        ">" => Test::Greater(value),
        ">=" => Test::GreaterOrEqual(value),
        STARTS_WITH | NOT_STARTS_WITH => match value {
            Value::Text(prefix) => Test::StartsWith(prefix),
            _ => return invalid(format!("right-hand side of '{operator}' operator must be a literal string")),
        },
        other => return not_supported(column, other),
    };
    Ok(negated_if(matches!(operator, "!=" | NOT_STARTS_WITH), column.is(test)))
}

/// No whole number equals a fraction; one that is less lies at or below the whole number under it.
fn fraction(column: &Column, operator: &str, whole: i64) -> Understood<Filter> {
    let test = match operator {
        "=" | "!=" => Test::In(Vec::new()),
        "<" | "<=" => Test::LessOrEqual(Value::Number(whole)),
        ">" | ">=" => Test::Greater(Value::Number(whole)),
        other => return not_supported(column, other),
    };
    Ok(negated_if(operator == "!=", column.is(test)))
}

/// `=` asks for any of the words; a word with punctuation in it is a phrase.
fn words(column: &Column, operator: &str, given: Given) -> Understood<Filter> {
    if !matches!(operator, "=" | "!=") {
        return not_supported(column, operator);
    }
    let Some(Value::Text(text)) = given.exact() else { return invalid("unexpected value type (expected string)") };
    let phrases: Vec<Vec<String>> = text.split(' ').map(|word| attributes::words(word).collect()).collect();
    let phrases: Vec<_> = phrases.into_iter().filter(|phrase: &Vec<String>| !phrase.is_empty()).collect();
    if phrases.is_empty() {
        return invalid("unexpected value for Text type search attribute (no tokens found)");
    }
    Ok(negated_if(operator == "!=", column.is(Test::Contains(phrases))))
}

fn between(column: &Column, low: &Expr, high: &Expr) -> Understood<Filter> {
    use IndexedValueType::*;
    if !matches!(column.kind, Datetime | Double | Int | Keyword) {
        let (alias, kind) = (&column.alias, attributes::type_name(column.kind));
        return invalid(format!("cannot do range condition on search attribute '{alias}' of type {kind}"));
    }
    let low = match column.value(low)? {
        Given::Exact(value) => value,
        Given::Above(whole) => Value::Number(whole.saturating_add(1)),
    };
    let high = match column.value(high)? {
        Given::Exact(value) => value,
        Given::Above(whole) => Value::Number(whole),
    };
    Ok(column.is(Test::Between(low, high)))
}

impl Column {
    fn is(&self, test: Test) -> Filter {
        Filter::Is(Condition { field: self.field.clone(), test })
    }

    /// The right-hand side of a comparison, as a value that this attribute can have.
    fn value(&self, expr: &Expr) -> Understood<Given> {
        let literal = self.literal(expr)?;
        let exact = |value| Ok(Given::Exact(value));
        match (&self.field, literal) {
            (Field::System(System::ExecutionStatus), literal) => exact(Value::Number(self.status(literal)?)),
            (Field::System(System::ExecutionDuration), literal) => exact(Value::Number(duration(literal)?)),
            (_, literal) => match (self.kind, literal) {
                (IndexedValueType::Int, Literal::Int(number)) => exact(Value::Number(number)),
                (IndexedValueType::Int, Literal::Float(number)) => Ok(whole(number)),
                (IndexedValueType::Double, Literal::Int(number)) => exact(Value::Double(ordered_bits(number as f64))),
                (IndexedValueType::Double, Literal::Float(number)) => exact(Value::Double(ordered_bits(number))),
                (IndexedValueType::Bool, Literal::Bool(truth)) => exact(Value::Number(truth.into())),
                (IndexedValueType::Datetime, Literal::Int(nanos)) => exact(Value::Number(nanos.div_euclid(1000))),
                (IndexedValueType::Datetime, Literal::Text(text)) => match attributes::micros(&text) {
                    Some((micros, _)) => exact(Value::Number(micros)),
                    None => invalid(format!("unable to parse datetime '{text}'")),
                },
                (
                    IndexedValueType::Keyword | IndexedValueType::KeywordList | IndexedValueType::Text,
                    Literal::Text(text),
                ) => exact(Value::Text(text)),
                (_, literal) => self.wrong_type(&literal),
            },
        }
    }

    fn wrong_type<T>(&self, literal: &Literal) -> Understood<T> {
        let (alias, kind) = (&self.alias, attributes::type_name(self.kind));
        invalid(format!("invalid value type for search attribute {alias} of type {kind}: {literal}"))
    }

    fn status(&self, literal: Literal) -> Understood<i64> {
        match literal {
            Literal::Int(number) => match WorkflowExecutionStatus::try_from(i32::try_from(number).unwrap_or(-1)) {
                Ok(_) => Ok(number),
                Err(_) => invalid(format!("invalid ExecutionStatus value {number}")),
            },
            Literal::Text(text) => match values::status(&text) {
                Some(number) => Ok(number.into()),
                None => invalid(format!("invalid ExecutionStatus value '{text}'")),
            },
            other => self.wrong_type(&other),
        }
    }

    fn literal(&self, expr: &Expr) -> Understood<Literal> {
        match expr {
            Expr::Value(ValueWithSpan { value, .. }) => match value {
                Sql::SingleQuotedString(text) | Sql::DoubleQuotedString(text) => Ok(Literal::Text(text.clone())),
                Sql::Number(number, _) => values::number(number),
                Sql::Boolean(truth) => Ok(Literal::Bool(*truth)),
                Sql::Null => invalid("unexpected value type NULL"),
                other => invalid(format!("unable to parse value \"{other}\"")),
            },
            Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: inner } => match &**inner {
                Expr::Value(ValueWithSpan { value: Sql::Number(number, _), .. }) => match op {
                    UnaryOperator::Minus => values::number(&format!("-{number}")),
                    _ => values::number(number),
                },
                _ => invalid(format!("unary operator not supported in \"{expr}\"")),
            },
            Expr::Function(_) => unsupported("nested func"),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => unsupported(format!(
                "column name on the right side of comparison expression (did you forget to quote \"{}\"?)",
                expr.to_string().replace('`', "")
            )),
            other => invalid(format!("unexpected value `{other}`")),
        }
    }
}

fn whole(number: f64) -> Given {
    let floor = number.floor() as i64;
    if number.fract() == 0.0 { Given::Exact(Value::Number(floor)) } else { Given::Above(floor) }
}

fn duration(literal: Literal) -> Understood<i64> {
    match literal {
        Literal::Int(nanos) => Ok(nanos),
        Literal::Text(text) => match values::duration(&text) {
            Some(nanos) => Ok(nanos),
            None => invalid(format!("invalid duration value for search attribute ExecutionDuration: {text}")),
        },
        other => {
            let kind = other.type_name();
            invalid(format!("unexpected value type {kind} for search attribute ExecutionDuration"))
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
