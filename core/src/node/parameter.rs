//! What a node type can be told: declared once, checked before a node is made, shown to people and as JSON Schema.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::manifest::Params;
use crate::nearest::nearest;

/// One parameter of a node type.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Parameter {
    /// The key in `params`.
    pub name: String,
    /// Other keys that mean the same.
    pub aliases: Vec<String>,
    /// What is allowed.
    pub values: Values,
    /// What holds where none is given.
    pub absent: Absent,
    /// One sentence.
    pub summary: String,
}

/// The values that a parameter may have. In words by [`fmt::Display`]: `integer, 1 to 768000 (Hz)`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Values {
    /// Whole numbers; as in JSON Schema, `3.0` is one.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
        /// Of both; may be empty.
        unit: String,
    },
    /// Numbers.
    Number {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
        /// Of both; may be empty.
        unit: String,
    },
    /// True or false.
    Boolean,
    /// One of these words, in any case.
    Choice {
        /// In lower case.
        of: Vec<String>,
    },
    /// Any text.
    Text {
        /// In UTF-8.
        max_bytes: u32,
    },
}

/// What holds where a parameter is not given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Absent {
    /// It must be given.
    Refused,
    /// The node does without.
    Unset,
    /// This value, as JSON text.
    Default(String),
}

/// A parameter is not what the node type takes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum ParamError {
    /// The parameters as a whole do not fit: the problem names the parameter.
    #[error("params: {problem}")]
    Shape {
        /// What is wrong.
        problem: String,
    },
    /// A key that the type does not have.
    #[error("unknown parameter '{name}' = {value}: {}", Remedy { nearest: nearest.as_deref(), known })]
    Unknown {
        /// As written.
        name: String,
        /// As given, as JSON.
        #[serde(default)]
        value: Box<str>,
        /// What was probably meant.
        nearest: Option<Box<str>>,
        /// The keys there are.
        known: Box<[String]>,
    },
    /// A key that must be there is not.
    #[error("parameter '{name}' is missing: allowed is {allowed}")]
    Missing {
        /// The key.
        name: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two keys that mean the same.
    #[error("parameters '{name}' and '{alias}' mean the same: give one of them")]
    Twice {
        /// The key.
        name: String,
        /// The other.
        alias: String,
    },
    /// One value is of the wrong type or out of range.
    #[error("parameter '{name}' is {value}: allowed is {allowed}")]
    Value {
        /// The key, as written.
        name: String,
        /// As given, as JSON.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Reads parameters into a node's own struct; with `deny_unknown_fields` on it, unknown keys are named.
///
/// # Errors
/// They do not fit: the message names the key.
pub fn read_params<T: DeserializeOwned>(params: &Params) -> Result<T, ParamError> {
    serde_json::from_value(Value::Object(params.clone()))
        .map_err(|error| ParamError::Shape { problem: error.to_string() })
}

/// Checks what was given against what is declared. Gives every parameter under its own name: defaults are filled in, and
/// what has none and was not given is not there.
pub(super) fn check(declared: &[Parameter], given: &Params) -> Result<Params, ParamError> {
    let of_none = |key: &str| declared.iter().all(|parameter| !parameter.answers_to(key));
    if let Some((key, value)) = given.iter().find(|(key, _)| of_none(key)) {
        return Err(unknown_of(key, value, declared));
    }
    let mut checked = Params::new();
    for parameter in declared {
        if let Some(value) = parameter.find(given)? {
            checked.insert(parameter.name.clone(), value);
        }
    }
    Ok(checked)
}

/// All for which [`check`] would refuse what was given.
pub(super) fn problems(declared: &[Parameter], given: &Params) -> Vec<ParamError> {
    let of_none = |key: &str| declared.iter().all(|parameter| !parameter.answers_to(key));
    let unknown = given.iter().filter(|(key, _)| of_none(key));
    let unknown = unknown.map(|(key, value)| unknown_of(key, value, declared));
    unknown.chain(declared.iter().filter_map(|parameter| parameter.find(given).err())).collect()
}

/// What is declared as a JSON Schema (draft 2020-12) of the object `params`.
pub(super) fn schema(title: &str, description: &str, declared: &[Parameter]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut rules = Vec::new();
    for parameter in declared {
        properties.insert(parameter.name.clone(), parameter.schema());
        let same = json!({
            "$ref": format!("#/properties/{}", parameter.name),
            "description": format!("Another name of '{}'.", parameter.name),
        });
        properties.extend(parameter.aliases.iter().map(|alias| (alias.clone(), same.clone())));
        if !parameter.aliases.is_empty() {
            rules.push(parameter.one_name());
        } else if parameter.absent == Absent::Refused {
            required.push(parameter.name.clone());
        }
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    if !rules.is_empty() {
        schema["allOf"] = rules.into();
    }
    schema
}

// === impl Parameter ===

impl Parameter {
    /// One that must be given.
    #[must_use]
    pub fn required(name: &str, values: Values, summary: &str) -> Self {
        let (name, summary) = (name.to_owned(), summary.to_owned());
        Self { name, aliases: Vec::new(), values, absent: Absent::Refused, summary }
    }

    /// One that the node can do without.
    #[must_use]
    pub fn optional(name: &str, values: Values, summary: &str) -> Self {
        Self { absent: Absent::Unset, ..Self::required(name, values, summary) }
    }

    /// One with a value where none is given.
    #[must_use]
    pub fn with_default(name: &str, values: Values, default: impl Into<Value>, summary: &str) -> Self {
        let default = Absent::Default(default.into().to_string());
        Self { absent: default, ..Self::required(name, values, summary) }
    }

    /// The same, which these keys mean too.
    #[must_use]
    pub fn also_called(self, aliases: &[&str]) -> Self {
        Self { aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(), ..self }
    }

    /// Its name, and every other key that means it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }

    fn answers_to(&self, key: &str) -> bool {
        self.names().any(|name| name == key)
    }

    /// Its value: as given, as the default says, or none.
    fn find(&self, given: &Params) -> Result<Option<Value>, ParamError> {
        let mut found = self.names().filter_map(|name| Some((name, given.get(name)?)));
        let value = match (found.next(), found.next()) {
            (Some((name, _)), Some((alias, _))) => {
                return Err(ParamError::Twice { name: name.to_owned(), alias: alias.to_owned() });
            }
            (Some((name, value)), None) => Some(self.accept(name, value)?),
            (None, _) => match &self.absent {
                Absent::Refused => {
                    let (name, allowed) = (self.name.clone(), self.values.to_string());
                    return Err(ParamError::Missing { name, allowed });
                }
                Absent::Unset => None,
                Absent::Default(text) => {
                    let value = serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
                    Some(self.accept(&self.name, &value)?)
                }
            },
        };
        Ok(value)
    }

    fn accept(&self, name: &str, value: &Value) -> Result<Value, ParamError> {
        self.values.accept(value).ok_or_else(|| ParamError::Value {
            name: name.to_owned(),
            value: shortened(&value.to_string()),
            allowed: self.values.to_string(),
        })
    }

    fn schema(&self) -> Value {
        let mut schema = self.values.schema();
        schema["description"] = match self.values.unit() {
            "" => self.summary.clone().into(),
            unit => format!("{} In {unit}.", self.summary).into(),
        };
        if let Absent::Default(text) = &self.absent {
            schema["default"] = serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
        }
        schema
    }

    /// That at most one of its names is used, and exactly one if it must be given.
    fn one_name(&self) -> Value {
        let named = |name: &str| json!({ "required": [name] });
        let mut choices: Vec<Value> = self.names().map(named).collect();
        if self.absent != Absent::Refused {
            let none = json!({ "not": { "anyOf": choices.clone() } });
            choices.push(none);
        }
        json!({ "oneOf": choices })
    }
}

// === impl Values ===

impl Values {
    /// Whole numbers of a range; the unit may be empty.
    #[must_use]
    pub fn integer(range: RangeInclusive<u32>, unit: &str) -> Self {
        let (min, max) = (i64::from(*range.start()), i64::from(*range.end()));
        Self::Integer { min, max, unit: unit.to_owned() }
    }

    /// Numbers of a range; the unit may be empty.
    #[must_use]
    pub fn number(range: RangeInclusive<f64>, unit: &str) -> Self {
        Self::Number { min: *range.start(), max: *range.end(), unit: unit.to_owned() }
    }

    /// One of some words, which are in lower case.
    #[must_use]
    pub fn choice(of: &[&str]) -> Self {
        Self::Choice { of: of.iter().map(|word| (*word).to_owned()).collect() }
    }

    /// The value as a node reads it, if it is allowed: a whole number without a fraction, a word in lower case.
    #[must_use]
    pub fn accept(&self, value: &Value) -> Option<Value> {
        match self {
            Self::Integer { min, max, .. } => {
                Some(whole(value).filter(|number| (min..=max).contains(&number))?.into())
            }
            Self::Number { min, max, .. } => {
                value.as_f64().filter(|number| (min..=max).contains(&number)).map(|_| value.clone())
            }
            Self::Boolean => value.as_bool().map(Value::from),
            Self::Choice { of } => {
                let given = value.as_str()?;
                of.iter().find(|word| word.eq_ignore_ascii_case(given)).map(|word| word.as_str().into())
            }
            Self::Text { max_bytes } => {
                let fits = |text: &&str| u32::try_from(text.len()).is_ok_and(|bytes| bytes <= *max_bytes);
                value.as_str().filter(fits).map(Value::from)
            }
        }
    }

    fn unit(&self) -> &str {
        match self {
            Self::Integer { unit, .. } | Self::Number { unit, .. } => unit,
            Self::Boolean | Self::Choice { .. } | Self::Text { .. } => "",
        }
    }

    fn schema(&self) -> Value {
        match self {
            Self::Integer { min, max, .. } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Number { min, max, .. } => json!({ "type": "number", "minimum": min, "maximum": max }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Choice { of } => json!({ "type": "string", "enum": of }),
            // JSON Schema counts characters, of which there are at most as many as bytes.
            Self::Text { max_bytes } => json!({ "type": "string", "maxLength": max_bytes }),
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max, .. } if min == max => write!(f, "{min}")?,
            Self::Integer { min, max, .. } => write!(f, "integer, {min} to {max}")?,
            Self::Number { min, max, .. } => write!(f, "number, {min} to {max}")?,
            Self::Boolean => f.write_str("true or false")?,
            Self::Choice { of } => f.write_str(&of.join(", "))?,
            Self::Text { max_bytes } => write!(f, "string, at most {max_bytes} bytes")?,
        }
        match self.unit() {
            "" => Ok(()),
            unit => write!(f, " ({unit})"),
        }
    }
}

/// What an unknown name is answered with.
struct Remedy<'a> {
    nearest: Option<&'a str>,
    known: &'a [String],
}

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.nearest, self.known) {
            (_, []) => f.write_str("the type has none"),
            (Some(nearest), known) => write!(f, "there are {}; did you mean '{nearest}'?", known.join(", ")),
            (None, known) => write!(f, "there are {}", known.join(", ")),
        }
    }
}

fn unknown_of(key: &str, value: &Value, declared: &[Parameter]) -> ParamError {
    ParamError::Unknown {
        name: shortened(key),
        value: shortened(&value.to_string()).into(),
        nearest: nearest(key, declared.iter().flat_map(Parameter::names)).map(Into::into),
        known: declared.iter().map(|parameter| parameter.name.clone()).collect(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 2^53 is an i64")]
fn whole(value: &Value) -> Option<i64> {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    let fractionless = |number: &f64| number.fract() == 0.0 && number.abs() <= LARGEST;
    value.as_i64().or_else(|| value.as_f64().filter(fractionless).map(|number| number as i64))
}

/// A message is read by people: a value of a quarter of a megabyte is not.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn declared() -> Vec<Parameter> {
        let rate = Values::integer(1..=768_000, "Hz");
        vec![
            Parameter::required("target_sample_rate", rate.clone(), "Rate of the output.")
                .also_called(&["target_rate"]),
            Parameter::optional("source_rate", rate, "Rate of the input.").also_called(&["from"]),
            Parameter::with_default("quality", Values::choice(&["low", "high"]), "high", "How good."),
            Parameter::with_default("gain", Values::number(0.0..=1.0, ""), 0.5, "How loud."),
            Parameter::with_default("wide", Values::Boolean, false, "Whether it is wide."),
            Parameter::with_default("label", Values::Text { max_bytes: 5 }, "", "What it is called."),
        ]
    }

    fn checked(given: Value) -> Result<Value, String> {
        let Value::Object(given) = given else { panic!("params are an object") };
        check(&declared(), &given).map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_given_comes_under_its_own_name_and_the_rest_by_default() {
        assert_eq!(
            checked(json!({ "target_rate": 16_000.0, "quality": "Low" })).unwrap(),
            json!({ "target_sample_rate": 16_000, "quality": "low", "gain": 0.5, "wide": false, "label": "" })
        );
    }

    #[test]
    fn what_is_not_allowed_is_named_with_its_value_and_what_is() {
        let check = |name: &str, value: Value, expect: &str| {
            let mut given = json!({ "target_sample_rate": 8_000 });
            given[name] = value;
            assert_eq!(checked(given).unwrap_err(), expect);
        };
        let allowed = "allowed is integer, 1 to 768000 (Hz)";
        for (value, shown) in [
            (json!(0), "0"),
            (json!(768_001), "768001"),
            (json!(-1), "-1"),
            (json!(1.5), "1.5"),
            (json!(1e300), "1e+300"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!("16000"), "\"16000\""),
            (json!(null), "null"),
            (json!([1]), "[1]"),
        ] {
            check("source_rate", value, &format!("parameter 'source_rate' is {shown}: {allowed}"));
        }
        check("from", json!(0), &format!("parameter 'from' is 0: {allowed}"));
        check("gain", json!(1.5), "parameter 'gain' is 1.5: allowed is number, 0 to 1");
        check("gain", json!(true), "parameter 'gain' is true: allowed is number, 0 to 1");
        check("quality", json!("best"), "parameter 'quality' is \"best\": allowed is low, high");
        check("wide", json!(1), "parameter 'wide' is 1: allowed is true or false");
        check(
            "label",
            json!("längst"),
            "parameter 'label' is \"längst\": allowed is string, at most 5 bytes",
        );
    }

    #[test]
    fn a_missing_a_doubled_and_an_unknown_name_are_told() {
        let check = |given: Value, expect: &str| assert_eq!(checked(given).unwrap_err(), expect);
        check(json!({}), "parameter 'target_sample_rate' is missing: allowed is integer, 1 to 768000 (Hz)");
        check(
            json!({ "target_sample_rate": 1, "target_rate": 1 }),
            "parameters 'target_sample_rate' and 'target_rate' mean the same: give one of them",
        );
        check(
            json!({ "target_rat": 1 }),
            "unknown parameter 'target_rat' = 1: there are target_sample_rate, source_rate, quality, gain, wide, label; did you mean 'target_rate'?",
        );
        check(
            json!({ "x": 1 }),
            "unknown parameter 'x' = 1: there are target_sample_rate, source_rate, quality, gain, wide, label",
        );
        let long = checked(json!({ "x": "y".repeat(100_000) })).unwrap_err();
        assert!(
            long.contains("'x' = \"yyy") && long.contains("… (100002 bytes)") && long.len() < 300,
            "{long}"
        );
    }

    #[test]
    fn a_number_that_json_does_not_have_is_refused_in_json_and_yaml() {
        let node = |gain: &str| format!(r#"{{"id": "a", "node_type": "T", "params": {{"gain": {gain}}}}}"#);
        for gain in ["NaN", "Infinity", "-Infinity", "1e999"] {
            let text = format!(r#"{{"version": "v1", "nodes": [{}]}}"#, node(gain));
            let error = Manifest::from_json(&text).unwrap_err();
            assert!(error.to_string().contains("line 1, column"), "{error}");
        }
        for gain in [".nan", ".inf", "-.inf"] {
            let text = format!("version: v1\nnodes:\n  - {}\n", node(gain));
            let error = Manifest::from_yaml(&text).unwrap_err();
            assert!(error.to_string().contains("line 3"), "{error}");
        }
    }

    #[test]
    fn one_wrong_parameter_does_not_hide_the_next() {
        let Value::Object(given) = json!({ "x": 1, "gain": 2, "label": 3 }) else { panic!("an object") };
        let told: Vec<String> = problems(&declared(), &given).iter().map(ToString::to_string).collect();
        let named = ["'x'", "'target_sample_rate'", "'gain'", "'label'"];
        assert_eq!(told.len(), named.len(), "{told:#?}");
        assert!(told.iter().zip(named).all(|(told, name)| told.contains(name)), "{told:#?}");
    }

    #[test]
    fn a_long_value_is_shortened_in_the_message() {
        let error = checked(json!({ "target_sample_rate": "x".repeat(100_000) })).unwrap_err();
        assert!(error.len() < 300 && error.contains("… (100002 bytes)"), "{error}");
    }

    #[test]
    fn the_schema_says_what_is_checked() {
        let schema = schema("Thing", "Does it.", &declared());
        assert_eq!(
            schema["properties"]["target_sample_rate"],
            json!({ "type": "integer", "minimum": 1, "maximum": 768_000, "description": "Rate of the output. In Hz." })
        );
        assert_eq!(schema["properties"]["target_rate"]["$ref"], "#/properties/target_sample_rate");
        assert_eq!(
            schema["properties"]["quality"],
            json!({ "type": "string", "enum": ["low", "high"], "default": "high", "description": "How good." })
        );
        assert_eq!(schema["required"], json!([]));
        assert_eq!(schema["additionalProperties"], false);
        let target =
            json!({ "oneOf": [{ "required": ["target_sample_rate"] }, { "required": ["target_rate"] }] });
        let source = [json!({ "required": ["source_rate"] }), json!({ "required": ["from"] })];
        let neither = json!({ "not": { "anyOf": source } });
        let source = json!({ "oneOf": [source[0], source[1], neither] });
        assert_eq!(schema["allOf"], json!([target, source]));
    }
}
