//! The two kinds that clients here send as protobuf: Secrets, in which Helm keeps its releases, and the options of a deletion.
//! The field numbers are those of Kubernetes' generated.proto files. Answers are JSON, which those clients take too.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Value, json};

use super::failure::Failure;

/// Media type of such a body.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    data: BTreeMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "6")]
    resource_version: String,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteOptions {
    #[prost(int64, optional, tag = "1")]
    grace_period_seconds: Option<i64>,
}

/// The same object as JSON.
///
/// # Errors
/// 400 for what is no such body, 415 for another kind.
pub(super) fn as_json(body: &[u8]) -> Result<Value, Failure> {
    let broken =
        |error: prost::DecodeError| Failure::bad_request(format!("the body is no protobuf: {error}"));
    let envelope = body.strip_prefix(MAGIC).ok_or_else(|| Failure::bad_request("the body is no protobuf"))?;
    let envelope = Unknown::decode(envelope).map_err(broken)?;
    let raw = envelope.raw.as_slice();
    match envelope.type_meta.unwrap_or_default().kind.as_str() {
        "Secret" => Ok(secret(Secret::decode(raw).map_err(broken)?)),
        "DeleteOptions" => {
            let options = DeleteOptions::decode(raw).map_err(broken)?;
            Ok(match options.grace_period_seconds {
                Some(seconds) => json!({"gracePeriodSeconds": seconds}),
                None => json!({}),
            })
        }
        other => Err(Failure::unsupported_body(&format!("{other} as {MEDIA_TYPE}"))),
    }
}

fn secret(secret: Secret) -> Value {
    let data: BTreeMap<String, String> =
        secret.data.into_iter().map(|(name, bytes)| (name, base64(&bytes))).collect();
    let metadata = secret.metadata.unwrap_or_default();
    let mut written = json!({"name": metadata.name, "labels": metadata.labels});
    if let Some(fields) = written.as_object_mut() {
        for (name, text) in
            [("namespace", metadata.namespace), ("resourceVersion", metadata.resource_version)]
        {
            if !text.is_empty() {
                fields.insert(name.to_owned(), text.into());
            }
        }
        if !metadata.annotations.is_empty() {
            fields.insert("annotations".to_owned(), json!(metadata.annotations));
        }
    }
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": written, "data": data, "type": secret.kind})
}

/// As RFC 4648 has it, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = ALPHABET.get(bits >> shift & 63).filter(|_| at <= three.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let examples = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, encoded) in examples {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_secret_is_the_same_in_both_forms() {
        let metadata = ObjectMeta {
            name: "release".to_owned(),
            labels: BTreeMap::from([("owner".to_owned(), "helm".to_owned())]),
            ..ObjectMeta::default()
        };
        let data = BTreeMap::from([("release".to_owned(), b"foo".to_vec())]);
        let raw = Secret { metadata: Some(metadata), data, kind: "Opaque".to_owned() }.encode_to_vec();
        let kind = |kind: &str| Some(TypeMeta { api_version: "v1".to_owned(), kind: kind.to_owned() });
        let body = |kind| [MAGIC, &Unknown { type_meta: kind, raw: raw.clone() }.encode_to_vec()].concat();
        assert_eq!(
            as_json(&body(kind("Secret"))).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"release": "Zm9v"},
                "metadata": {"name": "release", "labels": {"owner": "helm"}},
            })
        );
        assert_eq!(as_json(&body(kind("Pod"))).unwrap_err().code, 415);
        assert_eq!(as_json(b"{}").unwrap_err().code, 400);
    }
}
