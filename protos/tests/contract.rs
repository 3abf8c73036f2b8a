//! Holds the compiled contract to the published one, line by line.

use std::collections::BTreeSet;

use protox::prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor, MethodDescriptor,
};
use remotemedia_protos::FILE_DESCRIPTOR_SET;

const HEAD: &str = include_str!("head_contract.txt");
const WEBRTC: &str = include_str!("webrtc_contract.txt");

/// What we add to the published contract, in numbers that it will not reach.
const OURS: &str = "\
NodeManifest 100 own_process bool
StreamInit 100 max_buffered_chunks uint64
DataTypeHint 100 DATA_TYPE_HINT_CONTROL
DataTypeHint 101 DATA_TYPE_HINT_NUMPY
ResourceLimits 100 max_start_ms uint64 optional
ResourceLimits 101 max_replays uint32 optional
PipelineManifest 100 on_worker_loss WorkerLossPolicy
StreamResponse 100 status StreamStatus oneof=response
";

/// Messages of ours: nothing that is published has them.
const OUR_MESSAGES: &str = "
WorkerLossPolicy 0 WORKER_LOSS_POLICY_END
WorkerLossPolicy 1 WORKER_LOSS_POLICY_RESTART
LoadingWorker 1 name string
LoadingWorker 2 step string
LoadingWorker 3 elapsed_ms uint64
StreamStatus 1 node_id string
StreamStatus 2 node_type string
StreamStatus 3 waited_ms uint64
StreamStatus 4 workers LoadingWorker repeated
";

#[test]
fn compiled_contract_is_the_published_one_and_our_additions() {
    let published = [HEAD, WEBRTC, OURS, OUR_MESSAGES].into_iter().flat_map(lines).collect::<BTreeSet<_>>();
    let compiled = Contract::decode().lines();

    let missing = published.difference(&compiled).collect::<Vec<_>>();
    let unknown = compiled.difference(&published).collect::<Vec<_>>();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "published and not compiled: {missing:#?}\ncompiled and not published: {unknown:#?}"
    );
}

#[test]
fn published_tables_name_nothing_twice() {
    let all = [HEAD, WEBRTC, OURS, OUR_MESSAGES].into_iter().flat_map(lines).collect::<Vec<_>>();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert!(all.len() > 300, "the tables shrank to {} lines", all.len());
}

#[test]
fn our_additions_leave_room_for_the_published_contract_to_grow() {
    for line in lines(OURS) {
        let number = line.split(' ').nth(1).and_then(|number| number.parse::<u32>().ok());
        assert!(number.is_some_and(|number| number >= 100), "'{line}' wants a number of 100 or more");
    }
    for line in lines(OUR_MESSAGES) {
        let ours = line.split(' ').next().map(|name| format!("{name} "));
        let published = [HEAD, WEBRTC].into_iter().flat_map(lines);
        assert!(
            !published.into_iter().any(|other| ours.as_ref().is_some_and(|ours| other.starts_with(ours))),
            "{line}"
        );
    }
}

#[test]
fn generated_services_answer_under_the_published_names() {
    use remotemedia_protos::v1;
    for name in [
        v1::pipeline_execution_service_server::SERVICE_NAME,
        v1::streaming_pipeline_service_server::SERVICE_NAME,
        v1::pipeline_control_server::SERVICE_NAME,
        v1::webrtc::web_rtc_signaling_server::SERVICE_NAME,
    ] {
        assert!(HEAD.lines().any(|line| line.starts_with(&format!("/{name}/"))), "'{name}' is not published");
    }
}

/// Data lines of a table, without comments and blank lines.
fn lines(table: &str) -> impl Iterator<Item = String> + '_ {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

/// The compiled contract, told in the lines of the tables.
struct Contract(DescriptorPool);

impl Contract {
    fn decode() -> Self {
        Self(DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set decodes"))
    }

    fn lines(&self) -> BTreeSet<String> {
        let messages = self.0.all_messages().filter(|message| !message.is_map_entry());
        let methods = self.0.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        messages
            .flat_map(|message| message_lines(&message))
            .chain(self.0.all_enums().flat_map(|values| enum_lines(&values)))
            .chain(methods.map(|method| method_line(&method)))
            .collect()
    }
}

fn message_lines(message: &MessageDescriptor) -> Vec<String> {
    if message.fields().len() == 0 {
        return vec![format!("{} - empty", relative(message.full_name()))];
    }
    message.fields().map(|field| field_line(&field)).collect()
}

fn field_line(field: &FieldDescriptor) -> String {
    let message = field.parent_message();
    let mut line =
        format!("{} {} {} {}", relative(message.full_name()), field.number(), field.name(), type_of(field));
    match field.containing_oneof() {
        Some(oneof) if oneof.is_synthetic() => line.push_str(" optional"),
        Some(oneof) => line.push_str(&format!(" oneof={}", oneof.name())),
        None if field.is_list() => line.push_str(" repeated"),
        None => {}
    }
    let options = field.field_descriptor_proto().options.as_ref();
    if options.is_some_and(|options| options.deprecated()) {
        line.push_str(" deprecated");
    }
    line
}

fn type_of(field: &FieldDescriptor) -> String {
    let kind = field.kind();
    if let Some(message) = kind.as_message() {
        if field.is_map() {
            let (key, value) = (message.map_entry_key_field(), message.map_entry_value_field());
            return format!("map<{},{}>", type_of(&key), type_of(&value));
        }
        return relative(message.full_name());
    }
    kind.as_enum().map_or_else(|| format!("{kind:?}"), |values| relative(values.full_name()))
}

fn enum_lines(values: &EnumDescriptor) -> Vec<String> {
    let name = relative(values.full_name());
    values.values().map(|value| format!("{name} {} {}", value.number(), value.name())).collect()
}

fn method_line(method: &MethodDescriptor) -> String {
    let side = |message: MessageDescriptor, streams: bool| {
        format!("{}{}", if streams { "stream=" } else { "" }, relative(message.full_name()))
    };
    format!(
        "/{}/{} {} {}",
        method.parent_service().full_name(),
        method.name(),
        side(method.input(), method.is_client_streaming()),
        side(method.output(), method.is_server_streaming()),
    )
}

fn relative(name: &str) -> String {
    name.strip_prefix("remotemedia.v1.").unwrap_or(name).to_owned()
}
