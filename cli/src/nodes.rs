//! `remotemedia nodes`: what can be run.

use std::fmt;

use remotemedia_core::data::Kind;
use remotemedia_core::node::{Absent, NodeInfo, Parameter};
use remotemedia_core::token::Token;
use serde_json::{Value, json};

use crate::admin::AdminDoor;
use crate::args::NodesArgs;
use crate::error::CommandError;
use crate::find;
use crate::launch::Home;
use crate::table::Table;
use crate::transport::GrpcTransport;

/// Prints the node types that a service can run.
///
/// # Errors
/// There is no service, or it does not answer.
pub async fn nodes(args: NodesArgs, token: Option<Token>, home: &Home) -> Result<(), CommandError> {
    if let Some(endpoint) = &args.endpoint {
        let (_transport, version) = GrpcTransport::connect(endpoint, token).await?;
        let names = version.node_types;
        return Ok(if args.json { crate::print_json(&names) } else { crate::print_line(&names.join("\n")) }?);
    }
    let serving = find::gateway(home, args.runtime_dir.as_deref())?;
    let infos: Vec<NodeInfo> = AdminDoor::at(&serving.admin).get_json("/nodes").await?;
    Ok(if args.json {
        crate::print_json(&infos.iter().map(with_schema).collect::<Vec<_>>())
    } else {
        crate::print_line(Catalogue(infos).to_string().trim_end())
    }?)
}

/// What there is to know of a node type, with the JSON Schema of its parameters.
fn with_schema(info: &NodeInfo) -> Value {
    let NodeInfo { name, aliases, summary, accepts, ports, produces, parameters: _, repeatable, stateless } =
        info;
    json!({
        "name": name,
        "aliases": aliases,
        "summary": summary,
        "accepts": accepts,
        "ports": ports,
        "produces": produces,
        "repeatable": repeatable,
        "stateless": stateless,
        "params_schema": info.params_schema(),
    })
}

/// Node types for people.
struct Catalogue(Vec<NodeInfo>);

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, node) in self.0.iter().enumerate() {
            let blank = if place == 0 { "" } else { "\n" };
            let NodeInfo { name, aliases, summary, accepts, ports, produces, parameters, .. } = node;
            writeln!(f, "{blank}{name} ({} -> {})", Kinds(accepts), Kinds(produces))?;
            writeln!(f, "  {summary}")?;
            if !aliases.is_empty() {
                writeln!(f, "  Also called {}.", aliases.join(", "))?;
            }
            for port in ports {
                writeln!(f, "  Input {}: {}.", port.name, Kinds(&port.accepts))?;
            }
            if !parameters.is_empty() {
                let mut table = Table::new(["  PARAMETER", "ALLOWED", "DEFAULT", "MEANING"]);
                parameters.iter().for_each(|parameter| table.row(row(parameter)));
                write!(f, "{table}")?;
            }
        }
        Ok(())
    }
}

fn row(parameter: &Parameter) -> [String; 4] {
    let default = match &parameter.absent {
        Absent::Refused => "(required)",
        Absent::Unset => "",
        Absent::Default(value) => value,
    };
    let names = parameter.names().collect::<Vec<_>>().join(", ");
    let allowed = parameter.values.to_string();
    [format!("  {names}"), allowed, default.to_owned(), parameter.summary.clone()]
}

struct Kinds<'a>(&'a [Kind]);

impl fmt::Display for Kinds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any");
        }
        f.write_str(&self.0.iter().map(|kind| kind.name()).collect::<Vec<_>>().join("|"))
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_core::joined::Port;
    use remotemedia_core::node::Values;

    use super::*;

    #[test]
    fn a_node_type_reads_with_its_parameters() {
        let resample = NodeInfo {
            name: "AudioResample".to_owned(),
            aliases: vec!["RustResampleNode".to_owned()],
            summary: "Changes the sample rate.".to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Audio],
            parameters: vec![
                Parameter::required("target_rate", Values::integer(1..=9, "Hz"), "The rate to give."),
                Parameter::with_default("quality", Values::choice(&["low", "high"]), "high", "How good."),
            ],
            repeatable: true,
            stateless: false,
            ports: vec![Port::new("left", &[Kind::Audio])],
        };
        let any =
            NodeInfo { name: "PassThrough".into(), accepts: vec![], produces: vec![], ..resample.clone() };
        let any = NodeInfo { parameters: vec![], aliases: vec![], ports: vec![], ..any };
        let text = Catalogue(vec![resample, any]).to_string();
        assert_eq!(
            text,
            "AudioResample (audio -> audio)\n  Changes the sample rate.\n  \
             Also called RustResampleNode.\n  \
             Input left: audio.\n  \
             PARAMETER    ALLOWED               DEFAULT     MEANING\n  \
             target_rate  integer, 1 to 9 (Hz)  (required)  The rate to give.\n  \
             quality      low, high             \"high\"      How good.\n\n\
             PassThrough (any -> any)\n  Changes the sample rate.\n"
        );
    }
}
