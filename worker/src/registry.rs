//! The node types that a worker offers.

use std::collections::BTreeMap;

use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeInfo, NodeType, ParamError};

/// The node types that a worker offers, by the name that manifests call them.
#[derive(Default)]
pub struct Registry {
    types: BTreeMap<String, Registered>,
}

/// Two node types of one name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("node type '{name}' is registered twice: give one of them another name in its NodeInfo")]
pub struct DuplicateType {
    /// The name.
    pub name: String,
}

/// Why a node was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreateError {
    /// Nobody registered the type.
    #[error("node type '{node_type}' is not registered here: there are {known}")]
    UnknownType {
        /// As asked.
        node_type: String,
        /// The registered names.
        known: String,
    },
    /// The type refused its parameters.
    #[error(transparent)]
    Params(#[from] ParamError),
}

struct Registered {
    info: NodeInfo,
    create: fn(&Params) -> Result<Box<dyn Node>, ParamError>,
}

// === impl Registry ===

impl Registry {
    /// Without any type.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node type under the name in its [`NodeInfo`].
    ///
    /// # Errors
    /// The name is taken: nothing is replaced in silence.
    pub fn register<T: NodeType>(mut self) -> Result<Self, DuplicateType> {
        let info = T::info();
        if self.types.contains_key(&info.name) {
            return Err(DuplicateType { name: info.name });
        }
        self.types.insert(info.name.clone(), Registered { info, create: create::<T> });
        Ok(self)
    }

    /// What is registered, in order of names.
    #[must_use]
    pub fn infos(&self) -> Vec<NodeInfo> {
        self.types.values().map(|registered| registered.info.clone()).collect()
    }

    /// Makes a node for a session.
    ///
    /// # Errors
    /// The type is unknown, or does not take these parameters.
    pub fn create(&self, node_type: &str, params: &Params) -> Result<Box<dyn Node>, CreateError> {
        let Some(registered) = self.types.get(node_type) else {
            let known = self.types.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(CreateError::UnknownType { node_type: node_type.to_owned(), known });
        };
        Ok((registered.create)(params)?)
    }
}

fn create<T: NodeType>(params: &Params) -> Result<Box<dyn Node>, ParamError> {
    Ok(Box::new(T::new(params)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{PassThrough, Vad, stock};

    #[test]
    fn a_name_is_given_once() {
        let registry = Registry::new().register::<PassThrough>().unwrap();
        let error = registry.register::<PassThrough>().err().unwrap();
        assert_eq!(error, DuplicateType { name: "PassThrough".to_owned() });
    }

    #[test]
    fn an_unknown_type_is_answered_with_the_known_ones() {
        let registry = Registry::new().register::<Vad>().and_then(Registry::register::<PassThrough>).unwrap();
        let error = registry.create("Reverb", &Params::new()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "node type 'Reverb' is not registered here: there are PassThrough, VAD"
        );
    }

    #[test]
    fn every_stock_type_without_a_required_parameter_is_made_from_none() {
        let registry = stock();
        for info in registry.infos() {
            let required = info.parameters.iter().any(|parameter| parameter.default.is_none());
            let made = registry.create(&info.name, &Params::new());
            assert_eq!(made.is_err(), required, "{}", info.name);
        }
    }
}
