//! The proto3 JSON mapping with the original field names and default values emitted.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).map_err(|error| error.to_string()));

/// A message could not be turned into JSON.
#[derive(Debug)]
pub struct JsonError(String);

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this message and its JSON do not fit: {}", self.0)
    }
}

impl std::error::Error for JsonError {}

/// Turns a message of the package `lastwords.v1` into JSON: original field names, default values emitted, enums by name, 64-bit
/// integers as strings (as the proto3 JSON mapping has it).
///
/// # Errors
/// When `name` is no message of the package, or `message` is not of that type.
pub fn to_json(name: &str, message: &impl Message) -> Result<serde_json::Value, JsonError> {
    let dynamic = DynamicMessage::decode(descriptor(name)?, message.encode_to_vec().as_slice())
        .map_err(|error| JsonError(error.to_string()))?;
    let options = SerializeOptions::new().skip_default_fields(false).use_proto_field_name(true);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| JsonError(error.to_string()))
}

/// The message that [`to_json`] made this JSON of.
///
/// # Errors
/// When `name` is no message of the package, or `json` has a field that it has not.
pub fn from_json<T: Message + Default>(name: &str, json: &serde_json::Value) -> Result<T, JsonError> {
    let dynamic =
        DynamicMessage::deserialize(descriptor(name)?, json).map_err(|error| JsonError(error.to_string()))?;
    dynamic.transcode_to().map_err(|error| JsonError(error.to_string()))
}

fn descriptor(name: &str) -> Result<MessageDescriptor, JsonError> {
    let pool = POOL.as_ref().map_err(|error| JsonError(error.clone()))?;
    pool.get_message_by_name(&format!("lastwords.v1.{name}"))
        .ok_or_else(|| JsonError(format!("no message lastwords.v1.{name}")))
}
