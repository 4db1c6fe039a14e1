//! The wire contract cannot move unseen: every message, field, number, type and label, every enum value and every method is listed in
//! `descriptor.golden`. After a wanted change run `UPDATE_GOLDEN=1 cargo test -p lastwords-proto --test descriptor` and look at
//! the difference: lines may be added, none may change.
#![allow(clippy::expect_used, reason = "a test may fail loudly")]

use std::path::Path;

use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, Kind, MessageDescriptor};

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn message_lines(message: &MessageDescriptor) -> Vec<String> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(prost_reflect::FieldDescriptor::number);
    fields
        .iter()
        .map(|field| {
            let label = match (field.cardinality(), field.containing_oneof()) {
                (Cardinality::Repeated, _) => "repeated".to_owned(),
                (_, Some(oneof)) if oneof.is_synthetic() => "optional".to_owned(),
                (_, Some(oneof)) => format!("oneof {}", oneof.name()),
                _ => "singular".to_owned(),
            };
            let (number, name) = (field.number(), field.name());
            format!("{}.{name} = {number} {label} {}", message.full_name(), kind(&field.kind()))
        })
        .collect()
}

fn enum_lines(values: &EnumDescriptor) -> Vec<String> {
    values
        .values()
        .map(|value| format!("{}.{} = {}", values.full_name(), value.name(), value.number()))
        .collect()
}

fn contract() -> String {
    let pool = DescriptorPool::decode(lastwords_proto::DESCRIPTORS).expect("the descriptors decode");
    let ours = |name: &str| name.starts_with("lastwords.");
    let mut lines: Vec<String> = Vec::new();
    for message in pool.all_messages().filter(|message| ours(message.full_name())) {
        lines.extend(message_lines(&message));
    }
    for values in pool.all_enums().filter(|values| ours(values.full_name())) {
        lines.extend(enum_lines(&values));
    }
    for service in pool.services() {
        for method in service.methods() {
            let stream = |is: bool| if is { "stream " } else { "" };
            lines.push(format!(
                "{}({}{}) -> {}{}",
                method.full_name(),
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name()
            ));
        }
    }
    lines.sort();
    lines.join("\n") + "\n"
}

#[test]
fn the_contract_is_the_one_that_is_written_down() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/descriptor.golden");
    let now = contract();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &now).expect("the golden file can be written");
    }
    let before = std::fs::read_to_string(&golden).unwrap_or_default();
    let missing = |from: &str, of: &str, sign: &str| -> String {
        let lines: Vec<&str> = of.lines().collect();
        from.lines().filter(|line| !lines.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    let difference = missing(&before, &now, "-") + &missing(&now, &before, "+");
    assert!(
        difference.is_empty(),
        "the wire contract differs from tests/descriptor.golden:\n{difference}\nA line with - breaks programs that are already deployed. \
         If the change is wanted: UPDATE_GOLDEN=1 cargo test -p lastwords-proto --test descriptor"
    );
}

#[test]
fn the_list_holds_what_it_should() {
    let contract = contract();
    for line in [
        "lastwords.v1.Crash.failures = 10 repeated lastwords.v1.Failure",
        "lastwords.v1.Cause.CAUSE_OUT_OF_MEMORY = 1",
        "lastwords.v1.ListCrashesRequest.cause = 2 optional lastwords.v1.Cause",
        "lastwords.v1.StreamCrashesRequest.hello = 1 oneof message lastwords.v1.AgentHello",
        "lastwords.v1.CrashQuery.WatchCrashes(lastwords.v1.WatchCrashesRequest) -> stream lastwords.v1.WatchCrashesResponse",
        "lastwords.v1.Failure.last_before_death_ms = 12 singular double",
    ] {
        assert!(contract.lines().any(|listed| listed == line), "missing: {line}");
    }
}
