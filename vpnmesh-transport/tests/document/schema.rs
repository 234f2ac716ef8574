//! The published schema, and a checker for the part of JSON Schema 2020-12 that it uses. A keyword
//! that the checker does not know is a failure, so nothing in the schema goes unchecked.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::rig;

/// The schema.
pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn published() -> Self {
        let text = include_str!("../../../docs/session-state.schema.json");
        Self(serde_json::from_str(text).unwrap())
    }

    /// Whether `value` is valid; the first place where it is not.
    pub(crate) fn validate(&self, value: &Value) -> Result<(), String> {
        self.check(&self.0, value, "")
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        for (keyword, rule) in schema.as_object().unwrap() {
            if !self.holds(schema, keyword, rule, value, at)? {
                return Err(format!("{at}: {keyword} {rule}"));
            }
        }
        Ok(())
    }

    fn holds(
        &self,
        schema: &Value,
        keyword: &str,
        rule: &Value,
        value: &Value,
        at: &str,
    ) -> Result<bool, String> {
        let limit = || usize::try_from(rule.as_u64().unwrap()).unwrap();
        Ok(match keyword {
            "$schema" | "$id" | "$defs" | "title" | "description" | "contentEncoding" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                self.check(self.0.pointer(pointer).unwrap(), value, at)?;
                true
            }
            "anyOf" => list(rule).any(|one| self.check(one, value, at).is_ok()),
            "type" if rule.is_array() => list(rule).any(|one| is_a(value, one)),
            "type" => is_a(value, rule),
            "const" => value == rule,
            "enum" => list(rule).any(|one| one == value),
            "minimum" => integer(value).is_none_or(|found| Some(found) >= integer(rule)),
            "maximum" => integer(value).is_none_or(|found| Some(found) <= integer(rule)),
            "pattern" => value.as_str().is_none_or(|text| matches(rule, text)),
            "format" => value.as_str().is_none_or(|text| match rule.as_str() {
                Some("ipv4") => text.parse::<Ipv4Addr>().is_ok(),
                Some("ipv6") => text.parse::<Ipv6Addr>().is_ok(),
                other => panic!("format {other:?}"),
            }),
            "minItems" => value.as_array().is_none_or(|items| items.len() >= limit()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() <= limit()),
            "uniqueItems" => value.as_array().is_none_or(|items| {
                let twice = |at: usize| items[..at].contains(&items[at]);
                !(0..items.len()).any(twice)
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(rule, item, &format!("{at}/{index}"))?;
                }
                true
            }
            "required" => value.as_object().is_none_or(|fields| {
                list(rule).all(|name| fields.contains_key(name.as_str().unwrap()))
            }),
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(name) {
                        self.check(schema, field, &format!("{at}/{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => value.as_object().is_none_or(|fields| {
                let known = |name: &String| schema["properties"].get(name).is_some();
                rule.as_bool().unwrap() || fields.keys().all(known)
            }),
            other => panic!("the checker does not know {other}"),
        })
    }
}

fn list(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.as_array().unwrap().iter()
}

fn integer(value: &Value) -> Option<i128> {
    let unsigned = value.as_u64().map(i128::from);
    unsigned.or_else(|| value.as_i64().map(i128::from))
}

fn is_a(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => integer(value).is_some(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    }
}

/// Whether `text` matches a pattern of characters, classes such as `[0-9a-f]`, and counts `{n}`.
fn matches(pattern: &Value, text: &str) -> bool {
    let pattern = pattern.as_str().unwrap();
    let mut rest = pattern
        .strip_prefix('^')
        .and_then(|pattern| pattern.strip_suffix('$'))
        .unwrap();
    let mut text = text.chars();
    while let Some(first) = rest.chars().next() {
        let class = match rest.strip_prefix('[') {
            Some(class) => &class[..class.find(']').unwrap()],
            None => &rest[..first.len_utf8()],
        };
        rest = &rest[class.len() + if first == '[' { 2 } else { 0 }..];
        let mut count = 1;
        if let Some(counted) = rest.strip_prefix('{') {
            let end = counted.find('}').unwrap();
            count = counted[..end].parse().unwrap();
            rest = &counted[end + 1..];
        }
        for _ in 0..count {
            if !text.next().is_some_and(|found| is_in(class, found)) {
                return false;
            }
        }
    }
    text.next().is_none()
}

fn is_in(class: &str, found: char) -> bool {
    let class: Vec<char> = class.chars().collect();
    let mut at = 0;
    while at < class.len() {
        let range = class.get(at + 1) == Some(&'-') && at + 2 < class.len();
        let last = if range { class[at + 2] } else { class[at] };
        if (class[at]..=last).contains(&found) {
            return true;
        }
        at += if range { 3 } else { 1 };
    }
    false
}

#[test]
fn real_documents_are_valid() {
    let schema = Schema::published();
    for document in [rig::document(), rig::sealed()] {
        assert_eq!(schema.validate(&rig::json(&document)), Ok(()));
    }
}

#[test]
fn the_schema_names_every_field_of_a_document() {
    let document = rig::json(&rig::sealed());
    for pointer in rig::pointers(&document) {
        let Some(fields) = document.pointer(&pointer).and_then(Value::as_object) else {
            continue;
        };
        let pointer: String = pointer
            .split('/')
            .skip(1)
            .map(|name| format!("/properties/{name}"))
            .collect();
        let schema = Schema::published().0.pointer(&pointer).unwrap().clone();
        let names: Vec<_> = fields.keys().collect();
        let described: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, described);
        assert_eq!(schema["required"].as_array().unwrap().len(), names.len());
    }
}

/// Every value in turn is replaced by others: whatever the parser takes is valid.
#[test]
fn what_the_parser_takes_the_schema_takes() {
    let schema = Schema::published();
    let document = rig::json(&rig::sealed());
    let others = serde_json::json!([
        null,
        true,
        -1,
        0,
        1,
        2,
        7,
        8,
        65_535,
        65_536,
        4_294_967_295_u64,
        4_294_967_296_u64,
        u64::MAX,
        1.5,
        "",
        "1",
        "high",
        "10.0.0.1",
        "::1",
        "::ffff:1.2.3.4",
        "1.2.3",
        [],
        [2],
        [2, 2],
        ["10.0.0.1"],
        {}
    ]);
    for pointer in rig::pointers(&document) {
        for other in list(&others) {
            let mut changed = document.clone();
            *changed.pointer_mut(&pointer).unwrap() = other.clone();
            let (parsed, valid) = (rig::parse(&changed), schema.validate(&changed));
            if parsed.is_ok() {
                assert_eq!(valid, Ok(()), "{pointer} {other}");
            }
        }
    }
}
