//! Programs of neighbouring versions work together: held against the wire of the last release, as `proto/wire` keeps it.
//!
//! `cargo xtask wire` renews the recording, once a release, right after its tag: from then on the released programs are the neighbours. Never
//! in between, for a change that breaks them would be recorded with it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

#[path = "neighbours/filled.rs"]
mod filled;
#[path = "neighbours/rules.rs"]
mod rules;

use std::path::{Path, PathBuf};

use lastwords_proto::{DESCRIPTORS, v1};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::FileDescriptorSet;

/// Set by `cargo xtask wire`.
const RECORD: &str = "LASTWORDS_RECORD_WIRE";

fn wire() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wire")
}

fn now() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).unwrap()
}

fn recorded() -> DescriptorPool {
    DescriptorPool::decode(std::fs::read(wire().join("descriptors.binpb")).unwrap().as_slice()).unwrap()
}

/// The types that any call carries, by their full names.
fn carried(pool: &DescriptorPool) -> Vec<String> {
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let types = methods.flat_map(|method| [method.input(), method.output()]);
    let mut names: Vec<String> = types.map(|message| message.full_name().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

fn file(name: &str) -> PathBuf {
    wire().join(format!("{}.binpb", name.rsplit('.').next().unwrap()))
}

/// The messages of one type as the last release sends them, every field of it filled.
fn messages(name: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut rest = bytes.as_slice();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).unwrap();
        let (message, after) = rest.split_at(length);
        messages.push(message.to_vec());
        rest = after;
    }
    assert!(!messages.is_empty(), "{name}");
    messages
}

/// Reads by today's types and writes again, as a program of today does.
fn through_today(name: &str, bytes: &[u8]) -> Vec<u8> {
    macro_rules! by_type {
        ($($type:ident)+) => {
            match name.rsplit('.').next().unwrap() {
                $(stringify!($type) => v1::$type::decode(bytes).unwrap().encode_to_vec(),)+
                other => panic!("a call carries {other}: list it here"),
            }
        };
    }
    by_type!(
        StreamCrashesRequest StreamCrashesResponse ListCrashesRequest ListCrashesResponse GetCrashRequest GetCrashResponse
        ExplainPodRequest ExplainPodResponse ExplainOwnerRequest ExplainOwnerResponse ListNodesRequest ListNodesResponse
        WatchCrashesRequest WatchCrashesResponse
    )
}

fn record() {
    std::fs::create_dir_all(wire()).unwrap();
    std::fs::write(wire().join("descriptors.binpb"), DESCRIPTORS).unwrap();
    let pool = now();
    for name in carried(&pool) {
        let messages = filled::every_way(&pool.get_message_by_name(&name).unwrap(), &pool);
        let bytes: Vec<u8> = messages.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
        std::fs::write(file(&name), bytes).unwrap();
    }
}

/// The first by name: with one thread it runs before what reads the recording.
#[test]
fn a_recording_is_made_when_it_is_wanted() {
    if std::env::var_os(RECORD).is_some() {
        record();
    }
    assert_eq!(carried(&recorded()).len(), std::fs::read_dir(wire()).unwrap().count() - 1, "a file a type");
}

#[test]
fn what_the_last_release_sends_is_understood_whole() {
    for name in carried(&recorded()) {
        for message in messages(&name) {
            assert_eq!(through_today(&name, &message), message, "{name} loses something on its way");
        }
    }
}

#[test]
fn what_is_sent_now_is_understood_by_the_last_release() {
    let (before, now) = (recorded(), now());
    for name in carried(&before) {
        let then = before.get_message_by_name(&name).unwrap();
        let today = filled::every_way(&now.get_message_by_name(&name).unwrap(), &before);
        // A choice that was added later comes after those of before.
        for (message, expected) in today.iter().zip(filled::every_way(&then, &before)) {
            let bytes = message.encode_to_vec();
            let mut understood = DynamicMessage::decode(then.clone(), bytes.as_slice()).unwrap();
            filled::forget_unknown(&mut understood);
            assert_eq!(understood.encode_to_vec(), expected.encode_to_vec(), "{name}");
        }
    }
}

#[test]
fn what_the_last_release_does_not_send_is_missing_and_not_wrong() {
    // The smallest of what it may send: nothing but what makes it that message.
    let request = v1::StreamCrashesRequest {
        message: Some(v1::stream_crashes_request::Message::Hello(v1::AgentHello::default())),
    };
    let understood = v1::StreamCrashesRequest::decode(request.encode_to_vec().as_slice()).unwrap();
    assert_eq!(understood, request);
    for name in carried(&recorded()) {
        assert_eq!(through_today(&name, &[]), Vec::<u8>::new(), "{name}");
    }
}

#[test]
fn nothing_changed_its_meaning_since_the_last_release() {
    let broken = rules::broken(&recorded(), &now());
    assert!(broken.is_empty(), "programs that are deployed would misread this:\n{}", broken.join("\n"));
}

/// Today's descriptors with one thing changed.
fn changed(
    change: impl FnOnce(&mut prost_types::DescriptorProto, &mut prost_types::EnumDescriptorProto),
) -> DescriptorPool {
    let mut set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut files = set.file.iter_mut();
    let file = files.find(|file| file.name().ends_with("crash.proto")).unwrap();
    let message = file.message_type.iter_mut().find(|message| message.name() == "Losses").unwrap();
    let values = file.enum_type.iter_mut().find(|values| values.name() == "Cause").unwrap();
    change(message, values);
    DescriptorPool::from_file_descriptor_set(set).unwrap()
}

#[test]
fn each_rule_is_broken_by_what_breaks_it() {
    use prost_types::descriptor_proto::ReservedRange;
    use prost_types::field_descriptor_proto::{Label, Type};
    let last = |message: &mut prost_types::DescriptorProto| message.field.pop().unwrap();
    let reserve = |message: &mut prost_types::DescriptorProto, number: i32, name: &str| {
        message.reserved_range.push(ReservedRange { start: Some(number), end: Some(number + 1) });
        message.reserved_name.push(name.to_owned());
    };
    let said = |pool: &DescriptorPool| rules::broken(&now(), pool).join("\n");
    assert_eq!(said(&changed(|_, _| {})), "");
    assert!(said(&changed(|message, _| drop(last(message)))).contains("neither it nor a reservation"));
    let reserved = changed(|message, _| {
        let gone = last(message);
        reserve(message, gone.number(), gone.name());
    });
    assert_eq!(said(&reserved), "");
    let retyped = changed(|message, _| message.field.last_mut().unwrap().set_type(Type::Sint64));
    assert!(said(&retyped).contains("was uint64"), "{}", said(&retyped));
    let renamed = changed(|message, _| message.field.last_mut().unwrap().name = Some("other".to_owned()));
    assert!(said(&renamed).contains("JSON"), "{}", said(&renamed));
    let many = changed(|message, _| message.field.last_mut().unwrap().set_label(Label::Repeated));
    assert!(said(&many).contains("repeated"), "{}", said(&many));
    let gone = changed(|_, values| drop(values.value.pop()));
    assert!(said(&gone).contains("CAUSE_"), "{}", said(&gone));
    let renumbered = changed(|_, values| values.value.last_mut().unwrap().number = Some(99));
    assert!(said(&renumbered).contains("CAUSE_"), "{}", said(&renumbered));
}
