//! The node types that a worker offers.

use std::collections::BTreeMap;

use remotemedia_core::frame::SessionId;
use remotemedia_core::limits::Limits;
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, NodeError, NodeInfo, NodeType, ParamError};

/// The node types that a worker offers, by the names that manifests call them.
#[derive(Default)]
pub struct Registry {
    types: BTreeMap<String, Registered>,
}

/// Two node types of one name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("node type '{name}' is registered twice: give one of them another name in its NodeInfo")]
pub struct DuplicateType {
    /// The name, or the alias.
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
    /// What the node says while it is made.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// What makes nodes of a type. It may panic: that is a fault of the node.
pub type Maker = dyn Fn(&Params, &Place<'_>) -> Result<Box<dyn Node>, MakeError> + Send + Sync;

/// Where a node is made for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The session.
    pub session: SessionId,
    /// The node's id in its pipeline.
    pub node: &'a str,
    /// Bytes of pool memory that the session may hold.
    pub memory_bytes: u64,
}

/// A node was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MakeError {
    /// The parameters do not fit each other.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// What the node itself says.
    #[error(transparent)]
    Node(#[from] NodeError),
}

struct Registered {
    info: NodeInfo,
    make: Box<Maker>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.types.keys()).finish()
    }
}

// === impl Registry ===

impl Registry {
    /// Without any type.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node type under the name and the aliases in its [`NodeInfo`].
    ///
    /// # Errors
    /// One of them is taken: nothing is replaced in silence.
    pub fn register<T: NodeType>(self) -> Result<Self, DuplicateType> {
        self.register_made(T::info(), Box::new(|params, _| Ok(Box::new(T::new(params)?))))
    }

    /// Adds a node type that is not known when this is compiled.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub fn register_made(mut self, info: NodeInfo, make: Box<Maker>) -> Result<Self, DuplicateType> {
        if let Some(taken) = info.names().find(|name| self.find(name).is_some()) {
            return Err(DuplicateType { name: taken.to_owned() });
        }
        self.types.insert(info.name.clone(), Registered { info, make });
        Ok(self)
    }

    /// What is registered, in order of names.
    #[must_use]
    pub fn infos(&self) -> Vec<NodeInfo> {
        self.types.values().map(|registered| registered.info.clone()).collect()
    }

    /// Makes a node outside any session; the type may be called by an alias.
    ///
    /// # Errors
    /// The type is unknown, does not take these parameters, or its node cannot be made.
    pub fn create(&self, node_type: &str, params: &Params) -> Result<Box<dyn Node>, CreateError> {
        let memory_bytes = Limits::default().default_memory_bytes;
        self.create_at(node_type, params, &Place { session: SessionId(0), node: node_type, memory_bytes })
    }

    /// Makes a node for a session; the type may be called by an alias.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_at(
        &self,
        node_type: &str,
        params: &Params,
        place: &Place<'_>,
    ) -> Result<Box<dyn Node>, CreateError> {
        let Some(registered) = self.find(node_type) else {
            let known = self.types.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(CreateError::UnknownType { node_type: node_type.to_owned(), known });
        };
        match (registered.make)(&registered.info.check(params)?, place) {
            Ok(node) => Ok(node),
            Err(MakeError::Params(error)) => Err(error.into()),
            Err(MakeError::Node(error)) => Err(error.into()),
        }
    }

    /// What a type declares, by any of its names.
    #[must_use]
    pub fn info(&self, node_type: &str) -> Option<&NodeInfo> {
        self.find(node_type).map(|registered| &registered.info)
    }

    fn find(&self, name: &str) -> Option<&Registered> {
        let by_alias = || self.types.values().find(|registered| registered.info.answers_to(name));
        self.types.get(name).or_else(by_alias)
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::Frame;
    use remotemedia_core::node::{Absent, NodeError, Outputs, Parameter};

    use super::*;
    use crate::nodes::{PassThrough, Vad, stock};

    #[test]
    fn a_name_is_given_once() {
        let registry = Registry::new().register::<PassThrough>().unwrap();
        let error = registry.register::<PassThrough>().err().unwrap();
        assert_eq!(error, DuplicateType { name: "PassThrough".to_owned() });
    }

    #[test]
    fn a_type_is_made_by_any_of_its_names_and_no_name_means_two() {
        let registry = stock();
        for info in registry.infos() {
            for name in info.names() {
                let params = match info.parameters.first().filter(|first| first.absent == Absent::Refused) {
                    Some(_) => Params::from_iter([("target_rate".to_owned(), 16_000.into())]),
                    None => Params::new(),
                };
                registry.create(name, &params).err().map_or(Ok(()), Err).unwrap();
            }
        }
        let error = Registry::new().register::<Vad>().and_then(Registry::register::<Impostor>).err().unwrap();
        assert_eq!(error, DuplicateType { name: "RustVADNode".to_owned() });
    }

    /// Calls itself by another's alias.
    struct Impostor;

    impl NodeType for Impostor {
        fn info() -> NodeInfo {
            NodeInfo { name: "RustVADNode".to_owned(), aliases: Vec::new(), ..PassThrough::info() }
        }

        fn new(_params: &Params) -> Result<Self, ParamError> {
            Ok(Self)
        }
    }

    impl Node for Impostor {
        fn process(&mut self, _input: Frame, _out: &mut dyn Outputs) -> Result<(), NodeError> {
            Ok(())
        }
    }

    #[test]
    fn every_declared_default_is_allowed() {
        for info in stock().infos() {
            for Parameter { name, values, absent, .. } in info.parameters {
                let Absent::Default(text) = absent else { continue };
                let default = serde_json::from_str(&text).unwrap();
                assert_eq!(values.accept(&default), Some(default), "{} of {}", name, info.name);
            }
        }
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
            let required = info.parameters.iter().any(|parameter| parameter.absent == Absent::Refused);
            let made = registry.create(&info.name, &Params::new());
            assert_eq!(made.is_err(), required, "{}", info.name);
        }
    }
}
