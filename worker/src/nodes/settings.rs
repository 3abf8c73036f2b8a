//! The parameters of a stock node, read by its own declaration.

use std::ops::RangeInclusive;

use remotemedia_core::manifest::Params;
use remotemedia_core::node::{ParamError, Parameter};
use serde_json::Value;

/// Given parameters beside declared ones. Defaults and allowed values are read from the declaration, so what
/// `remotemedia nodes` prints is what holds.
pub(super) struct Settings<'a> {
    given: &'a Params,
    declared: Vec<Parameter>,
}

impl<'a> Settings<'a> {
    /// # Errors
    /// A parameter was given that is not declared.
    pub(super) fn read(given: &'a Params, declared: Vec<Parameter>) -> Result<Self, ParamError> {
        match given.keys().find(|key| declared.iter().all(|parameter| parameter.name != **key)) {
            Some(key) => Err(ParamError::Shape { problem: unknown(key, &declared) }),
            None => Ok(Self { given, declared }),
        }
    }

    /// # Errors
    /// Missing without a default, no integer, or out of `range`.
    pub(super) fn integer(&self, name: &str, range: RangeInclusive<u32>) -> Result<u32, ParamError> {
        let (declared, value) = self.value(name)?;
        let integer = value.as_u64().and_then(|number| u32::try_from(number).ok());
        integer.filter(|number| range.contains(number)).ok_or_else(|| refused(declared, &value))
    }

    /// # Errors
    /// Missing without a default, no number, or out of `range`.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<f64, ParamError> {
        let (declared, value) = self.value(name)?;
        value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| refused(declared, &value))
    }

    fn value(&self, name: &str) -> Result<(&Parameter, Value), ParamError> {
        let declared = self.declared.iter().find(|parameter| parameter.name == name);
        let declared = declared.expect("a node reads only the parameters that it declares");
        let value = match (self.given.get(name), &declared.default) {
            (Some(given), _) => given.clone(),
            (None, Some(default)) => serde_json::from_str(default).expect("declared defaults are JSON"),
            (None, None) => return Err(ParamError::Shape { problem: missing(declared) }),
        };
        Ok((declared, value))
    }
}

fn unknown(key: &str, declared: &[Parameter]) -> String {
    if declared.is_empty() {
        return format!("unknown parameter '{key}': the type has none");
    }
    let names = declared.iter().map(|parameter| parameter.name.as_str()).collect::<Vec<_>>();
    format!("unknown parameter '{key}': there are {}", names.join(", "))
}

fn missing(declared: &Parameter) -> String {
    format!("parameter '{}' is missing: allowed is {}", declared.name, declared.allowed)
}

fn refused(declared: &Parameter, value: &Value) -> ParamError {
    ParamError::Value {
        name: declared.name.clone(),
        value: value.to_string(),
        allowed: declared.allowed.clone(),
    }
}
