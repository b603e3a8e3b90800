//! From the text of a query to SQL's syntax tree: a WHERE clause (its keyword may not be written), and GROUP BY.
//!
//! The dialect is MySQL's with the operators STARTS_WITH and NOT STARTS_WITH, as the real server's parser has it: texts in single or
//! double quotes, names bare or in backticks.
//!
//! Called by [`super::parse`].

use std::any::TypeId;

use sqlparser::ast::{BinaryOperator, Expr, GroupByExpr, SetExpr, Statement};
use sqlparser::dialect::{Dialect, MySqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

/// What both operators are called in the tree.
pub const STARTS_WITH: &str = "STARTS_WITH";
pub const NOT_STARTS_WITH: &str = "NOT STARTS_WITH";

/// Parentheses within parentheses.
const NESTING_MAX: usize = 40;
/// AND, OR, NOT and opening parentheses in one query.
pub const CONDITIONS_MAX: usize = 2000;

/// A query, taken apart.
pub struct Clauses {
    pub filter: Option<Expr>,
    pub group_by: Vec<Expr>,
    pub order_by: Vec<Expr>,
    pub has_limit: bool,
}

/// Takes a query apart; what is wrong with it otherwise.
pub fn clauses(query: &str) -> Result<Clauses, String> {
    let text = query.trim();
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let is_clause = text.is_empty() || lower.starts_with("order by") || lower.starts_with("group by");
    let statement = format!("select * from visible {}{text}", if is_clause { "" } else { "where " });
    let words = |error| match error {
        ParserError::TokenizerError(why) | ParserError::ParserError(why) => why,
        ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    };
    let tokens = Tokenizer::new(&Filters, &statement).tokenize().map_err(|error| words(error.into()))?;
    let operators = tokens.iter().filter(|token| is_logic(token)).count();
    if operators > CONDITIONS_MAX {
        return Err(format!("it has {operators} conditions; {CONDITIONS_MAX} are the most"));
    }
    if tokens.iter().any(|token| matches!(token, Token::DoubleEq)) {
        return Err("syntax error near '='".to_owned());
    }
    let mut parser = Parser::new(&Filters).with_recursion_limit(NESTING_MAX).with_tokens(tokens);
    let parsed = parser.parse_statements().map_err(words)?;
    let Ok([Statement::Query(query)]) = <[Statement; 1]>::try_from(parsed) else {
        return Err("it is more than a filter".to_owned());
    };
    let has_limit = query.limit_clause.is_some() || query.fetch.is_some();
    let order_by = match query.order_by.map(|order| order.kind) {
        Some(sqlparser::ast::OrderByKind::Expressions(by)) => by.into_iter().map(|by| by.expr).collect(),
        Some(sqlparser::ast::OrderByKind::All(_)) => return Err("ORDER BY ALL".to_owned()),
        None => Vec::new(),
    };
    let SetExpr::Select(select) = *query.body else { return Err("it is more than a filter".to_owned()) };
    if select.from.len() != 1 || !select.from.iter().all(|from| from.joins.is_empty()) {
        return Err("it is more than a filter".to_owned());
    }
    let group_by = match select.group_by {
        GroupByExpr::Expressions(by, modifiers) if modifiers.is_empty() => by,
        _ => return Err("GROUP BY takes attributes only".to_owned()),
    };
    Ok(Clauses { filter: select.selection, group_by, order_by, has_limit })
}

/// The tree of a chain of conditions is as deep as the chain is long.
fn is_logic(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(word.keyword, Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::XOR),
        Token::Overlap | Token::StringConcat | Token::LParen => true,
        _ => false,
    }
}

#[derive(Debug)]
struct Filters;

impl Filters {
    /// The operator that comes next, if it is one of ours, and its tokens.
    fn operator(parser: &Parser<'_>) -> Option<(&'static str, usize)> {
        let is_ours = |nth: usize| match parser.peek_nth_token(nth).token {
            Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(STARTS_WITH),
            _ => false,
        };
        let is_not = matches!(parser.peek_nth_token(0).token, Token::Word(word) if word.keyword == Keyword::NOT);
        match is_not {
            true if is_ours(1) => Some((NOT_STARTS_WITH, 2)),
            false if is_ours(0) => Some((STARTS_WITH, 1)),
            _ => None,
        }
    }
}

impl Dialect for Filters {
    fn dialect(&self) -> TypeId {
        MySqlDialect {}.dialect()
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        MySqlDialect {}.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        MySqlDialect {}.is_identifier_part(ch)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn supports_double_ampersand_operator(&self) -> bool {
        true
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        if Self::operator(parser).is_some() {
            return Some(Ok(self.prec_value(Precedence::Like)));
        }
        // As in MySQL, where they are other ways to write OR and AND.
        match parser.peek_nth_token(0).token {
            Token::StringConcat => Some(Ok(self.prec_value(Precedence::Or))),
            Token::Overlap => Some(Ok(self.prec_value(Precedence::And))),
            _ => None,
        }
    }

    fn parse_infix(&self, parser: &mut Parser<'_>, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        let (operator, tokens) = Self::operator(parser)?;
        (0..tokens).for_each(|_| drop(parser.next_token()));
        Some(parser.parse_subexpr(precedence).map(|right| Expr::BinaryOp {
            left: Box::new(expr.clone()),
            op: BinaryOperator::Custom(operator.to_owned()),
            right: Box::new(right),
        }))
    }
}
