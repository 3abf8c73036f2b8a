//! A JSON or YAML text as it was written: every key and value with its place.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;
use serde_saphyr::{NonFiniteFloatPolicy, Options, Spanned};

use super::path::{Path, Step};

/// A value and where it begins.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Document {
    pub(super) place: Place,
    pub(super) content: Content,
}

/// A place in a text. Both numbers count from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// What a value is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Content {
    Nothing,
    Truth(bool),
    Number(Number),
    /// YAML has words for what JSON has none for: `.nan`, `.inf`.
    NoNumber(f64),
    Text(String),
    List(Vec<Document>),
    Mapping(Vec<Field>),
}

/// A key and its value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Field {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) value: Document,
}

/// What a manifest is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML 1.2.
    Yaml,
}

/// Where a text is neither.
pub(super) struct SyntaxError {
    pub(super) place: Place,
    pub(super) problem: String,
}

/// Characters of a value that a message shows.
const SHOWN: usize = 60;
/// Lists and mappings within each other: each costs a piece of the stack.
const DEEPEST: usize = 64;

// === impl Document ===

impl Document {
    pub(super) fn read(text: &str, format: Format) -> Result<Self, SyntaxError> {
        match format {
            Format::Json => JsonText::new(text).whole(),
            Format::Yaml => {
                serde_saphyr::from_str_with_options(text, yaml()).map(Self::from_yaml).map_err(|error| {
                    let place = error.location().map_or(Place::START, Place::of);
                    // The place is told apart, and the lines around it with it.
                    let words = error.without_snippet().to_string();
                    let words = words.lines().next().unwrap_or_default();
                    let words = words.split(" at line ").next().unwrap_or(words);
                    SyntaxError { place, problem: words.trim_start_matches("error: ").to_owned() }
                })
            }
        }
    }

    /// Where something stands; where it is missing, the place of what should hold it.
    pub(super) fn place_of(&self, path: &Path) -> Place {
        self.at(path.steps()).place
    }

    /// What stands there, or what should hold it.
    fn at(&self, steps: &[Step]) -> &Self {
        let mut at = self;
        for step in steps {
            let below = match (step, &at.content) {
                (Step::Field(name), Content::Mapping(fields)) => {
                    fields.iter().find(|field| field.name == *name).map(|field| &field.value)
                }
                (Step::Element(number), Content::List(elements)) => elements.get(*number),
                (Step::Field(_) | Step::Element(_), _) => None,
            };
            match below {
                Some(below) => at = below,
                None => break,
            }
        }
        at
    }

    /// Where the name of a field stands.
    pub(super) fn name_of(&self, path: &Path) -> Place {
        let Some((Step::Field(name), above)) = path.steps().split_last() else { return self.place_of(path) };
        let named = match &self.at(above).content {
            Content::Mapping(fields) => fields.iter().find(|field| field.name == *name),
            Content::Nothing
            | Content::Truth(_)
            | Content::Number(_)
            | Content::NoNumber(_)
            | Content::Text(_)
            | Content::List(_) => None,
        };
        named.map_or_else(|| self.place_of(path), |field| field.place)
    }

    fn from_yaml(spanned: Spanned<Content>) -> Self {
        Self { place: Place::of(spanned.referenced), content: spanned.value }
    }
}

/// As a message shows it: like JSON, and cut where it is long.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Truth(truth) => truth.to_string(),
            Self::Number(number) => number.to_string(),
            Self::NoNumber(number) => number.to_string(),
            Self::Text(text) => format!("'{text}'"),
            Self::List(elements) => format!("a list of {}", elements.len()),
            Self::Mapping(fields) => format!("a mapping of {}", fields.len()),
        };
        match words.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}…", &words[..end]),
            None => f.write_str(&words),
        }
    }
}

// === impl Place ===

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    fn of(location: serde_saphyr::Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

// === YAML ===

/// What is no number is read, so that it can be named with its field.
fn yaml() -> Options {
    serde_saphyr::options! { non_finite_float_policy: NonFiniteFloatPolicy::PassThrough }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a manifest")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Content, E> {
        Ok(Content::Truth(truth))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Content, E> {
        Ok(Content::Number(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Content, E> {
        Ok(Content::Number(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Content, E> {
        Ok(Number::from_f64(number).map_or(Content::NoNumber(number), Content::Number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(Document::from_yaml(element));
        }
        Ok(Content::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = Document::from_yaml(map.next_value()?);
            fields.push(Field { place: Place::of(key.referenced), name: key.value, value });
        }
        Ok(Content::Mapping(fields))
    }
}

// === JSON ===

/// A text whose parts know their place, because they are slices of it.
struct JsonText<'a> {
    text: &'a str,
    /// Offsets in bytes.
    line_starts: Vec<usize>,
}

/// The fields of an object, in their order.
struct RawFields<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> JsonText<'a> {
    fn new(text: &'a str) -> Self {
        let after = text.match_indices('\n').map(|(end, _)| end + 1);
        Self { text, line_starts: std::iter::once(0).chain(after).collect() }
    }

    fn whole(&self) -> Result<Document, SyntaxError> {
        let whole = serde_json::from_str(self.text).map_err(|error| {
            let place = Place { line: error.line() as u64, column: error.column().max(1) as u64 };
            SyntaxError { place, problem: words(&error) }
        })?;
        self.document(whole, DEEPEST)
    }

    fn document(&self, raw: &'a RawValue, deeper: usize) -> Result<Document, SyntaxError> {
        let (text, place) = (raw.get(), self.place(raw.get()));
        let Some(deeper) = deeper.checked_sub(1) else {
            let problem = format!("more than {DEEPEST} lists and mappings within each other");
            return Err(SyntaxError { place, problem });
        };
        let wrong = |error: serde_json::Error| SyntaxError { place, problem: words(&error) };
        let content = if text.starts_with('{') {
            let RawFields(fields) = serde_json::from_str(text).map_err(wrong)?;
            let fields = fields.into_iter().map(|(name, value)| {
                let place = self.place(name.get());
                let name = serde_json::from_str(name.get()).map_err(wrong)?;
                Ok(Field { place, name, value: self.document(value, deeper)? })
            });
            Content::Mapping(fields.collect::<Result<_, _>>()?)
        } else if text.starts_with('[') {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            let elements = elements.into_iter().map(|element| self.document(element, deeper));
            Content::List(elements.collect::<Result<_, _>>()?)
        } else {
            serde_json::from_str(text).map_err(wrong)?
        };
        Ok(Document { place, content })
    }

    fn place(&self, part: &str) -> Place {
        let offset = part.as_ptr().addr() - self.text.as_ptr().addr();
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let column = self.text[self.line_starts[line - 1]..offset].chars().count() + 1;
        Place { line: line as u64, column: column as u64 }
    }
}

impl<'de> Deserialize<'de> for RawFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = RawFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawFields(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// What serde_json says, without the place, which is told apart.
fn words(error: &serde_json::Error) -> String {
    error.to_string().split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, format: Format, paths: &[Path]) -> Vec<(u64, u64)> {
        let document = Document::read(text, format).unwrap_or_else(|error| panic!("{}", error.problem));
        let places = paths.iter().map(|path| document.place_of(path));
        places.map(|place| (place.line, place.column)).collect()
    }

    #[test]
    fn every_value_has_its_place_in_json_and_yaml() {
        let list = Path::root().field("a");
        let paths = [list.clone(), list.element(1).field("b"), list.element(7), Path::root().field("ü")];
        let json = "{\n  \"a\": [1, {\"b\": null}],\n\t\"\\u00fc\": \"\\ud83d\\ude00\"\n}";
        assert_eq!(places(json, Format::Json, &paths), [(2, 8), (2, 18), (2, 8), (3, 12)]);
        let yaml = "a:\n  - 1\n  - b: ~\nü: .nan\n";
        assert_eq!(places(yaml, Format::Yaml, &paths), [(2, 3), (3, 8), (2, 3), (4, 4)]);
    }

    #[test]
    fn a_broken_text_is_answered_with_its_place() {
        let check = |text: &str, format, line, words: &str| {
            let Err(SyntaxError { place, problem }) = Document::read(text, format) else { panic!("{text}") };
            assert!(place.line == line && problem.contains(words), "{place}: {problem}");
            assert!(!problem.contains("line "), "{problem}");
        };
        check("{\n \"a\": ,\n}", Format::Json, 2, "expected value");
        check("{\"a\": 1e999}", Format::Json, 1, "number out of range");
        check("", Format::Json, 1, "EOF");
        check(&"[".repeat(100_000), Format::Json, 1, "EOF");
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        check(&deep, Format::Json, 1, "more than 64");
        check("a: [1,\nb: }\n", Format::Yaml, 1, "bracket");
        check("a: 1\nb: 2\na: 3\n", Format::Yaml, 3, "a");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(Content::Text("ä".repeat(100)).to_string().chars().count(), SHOWN + 1);
    }
}
