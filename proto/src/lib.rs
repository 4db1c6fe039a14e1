//! The wire: `lastwords.v1` as generated code, its descriptor set, the JSON mapping, and the conversions between wire types and
//! the types of `diagnosis`. The only place where both kinds of type meet.

/// The generated messages, clients and servers of `lastwords.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; documented in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("lastwords.v1");
}

pub mod convert;
mod json;

pub use json::{JsonError, from_json, to_json};

/// The compiled `.proto` files as an encoded `google.protobuf.FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
