//! Where in a manifest something stands: `nodes[2].params.threshold`.

use std::fmt;

/// Where in a manifest something stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Path(Vec<Step>);

/// One step down into a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Into a field of a mapping.
    Field(String),
    /// Into an element of a list, counted from 0.
    Element(usize),
}

// === impl Path ===

impl Path {
    /// The manifest as a whole.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// A field of what is here.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.then(Step::Field(name.to_owned()))
    }

    /// An element of the list that is here, counted from 0.
    #[must_use]
    pub fn element(&self, number: usize) -> Self {
        self.then(Step::Element(number))
    }

    /// The way down from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this is `other`, or holds it.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the manifest");
        }
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if place == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Element(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_the_document_is_nested() {
        let nodes = Path::root().field("nodes");
        let params = nodes.element(2).field("params");
        assert_eq!(params.field("threshold").to_string(), "nodes[2].params.threshold");
        assert_eq!(Path::root().to_string(), "the manifest");
        assert!(nodes.holds(&params) && Path::root().holds(&nodes) && !params.holds(&nodes));
    }
}
