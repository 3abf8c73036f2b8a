//! `remotemedia nodes`: what can be run.

use std::fmt;

use remotemedia_core::data::Kind;
use remotemedia_core::node::NodeInfo;
use remotemedia_core::token::Token;
use serde_json::Value;

use crate::admin::AdminDoor;
use crate::args::NodesArgs;
use crate::error::CommandError;
use crate::find;
use crate::launch::Home;
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
    let door = AdminDoor::at(&serving.admin);
    Ok(if args.json {
        crate::print_json(&door.get_json::<Value>("/nodes").await?)
    } else {
        crate::print_line(Catalogue(door.get_json("/nodes").await?).to_string().trim_end())
    }?)
}

/// Node types for people.
struct Catalogue(Vec<NodeInfo>);

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, node) in self.0.iter().enumerate() {
            let blank = if place == 0 { "" } else { "\n" };
            let NodeInfo { name, summary, accepts, produces, parameters, repeatable: _ } = node;
            writeln!(f, "{blank}{name} ({} -> {})", Kinds(accepts), Kinds(produces))?;
            writeln!(f, "  {summary}")?;
            for parameter in parameters {
                let default = match &parameter.default {
                    Some(default) => format!("default {default}"),
                    None => "required".to_owned(),
                };
                writeln!(f, "  {}: {}; {default}. {}", parameter.name, parameter.allowed, parameter.summary)?;
            }
        }
        Ok(())
    }
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
    use remotemedia_core::node::Parameter;

    use super::*;

    #[test]
    fn a_node_type_reads_with_its_parameters() {
        let resample = NodeInfo {
            name: "AudioResample".to_owned(),
            summary: "Changes the sample rate.".to_owned(),
            accepts: vec![Kind::Audio],
            produces: vec![Kind::Audio],
            parameters: vec![Parameter {
                name: "target_sample_rate".to_owned(),
                allowed: "integer (Hz)".to_owned(),
                default: None,
                summary: "The rate to give.".to_owned(),
            }],
            repeatable: true,
        };
        let any =
            NodeInfo { name: "PassThrough".into(), accepts: vec![], produces: vec![], ..resample.clone() };
        let text = Catalogue(vec![resample, NodeInfo { parameters: vec![], ..any }]).to_string();
        assert_eq!(
            text,
            "AudioResample (audio -> audio)\n  Changes the sample rate.\n  \
             target_sample_rate: integer (Hz); required. The rate to give.\n\n\
             PassThrough (any -> any)\n  Changes the sample rate.\n"
        );
    }
}
