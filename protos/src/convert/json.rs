//! JSON objects in which every key is written once, as in files of manifests.

use std::fmt;

use remotemedia_core::manifest::Params;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// An object, within which no object has a key twice.
pub(super) struct Object(pub(super) Params);

/// How the complaint about a key that is there twice ends.
pub(super) const TWICE: &str = "is written twice";

/// Bytes of a key that a message shows.
const SHOWN: usize = 80;

/// Any value, within which no object has a key twice.
struct Any(Value);

/// Reads an object, and nothing else.
struct OfObject;

/// Reads whatever there is.
struct OfAny;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfObject).map(Self)
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfAny).map(Self)
    }
}

impl<'de> Visitor<'de> for OfObject {
    type Value = Params;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
        let mut object = Params::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown: String = key.chars().take(SHOWN).collect();
                return Err(A::Error::custom(format!("key '{shown}' {TWICE}")));
            }
            let Any(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(object)
    }
}

impl<'de> Visitor<'de> for OfAny {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Any(value)) = elements.next_element()? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        OfObject.visit_map(map).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_every_key_once_is_read_as_it_is() {
        let text =
            r#"{"a": [1, -1, 1.5, 18446744073709551615, null, true, "\u00e4", {"a": {}}], "b": {"a": []}}"#;
        let Object(read) = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(read), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_key_that_is_written_twice_is_told_at_any_depth() {
        let long = "x".repeat(100_000);
        for (text, key) in [
            (r#"{"a": 1, "a": 1}"#.to_owned(), "'a'"),
            (r#"{"b": [{"a": 1, "b": 2, "a": 3}]}"#.to_owned(), "'a'"),
            (format!(r#"{{"{long}": 1, "{long}": 2}}"#), "'xxx"),
        ] {
            let said = serde_json::from_str::<Object>(&text).map(|_read| ()).unwrap_err().to_string();
            assert!(said.contains(key) && said.contains(TWICE) && said.len() < 200, "{said}");
        }
    }
}
