//! What a real server adds to a Deployment and refuses in it, of its strategy: the one field of which what the server filled in
//! does not go with what somebody applies.

use serde_json::{Value, json};

use super::failure::Failure;
use super::resource::Resource;

/// The object with the default of its strategy, if it is a Deployment. Whoever applied it does not own that.
///
/// # Errors
/// 422 for what only one kind of strategy may have.
pub(super) fn completed(resource: &Resource, mut object: Value) -> Result<Value, Failure> {
    if resource.plural != "deployments" {
        return Ok(object);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(object) };
    let strategy = spec.entry("strategy").or_insert_with(|| json!({}));
    if strategy["type"].is_null() {
        strategy["type"] = "RollingUpdate".into();
    }
    if strategy["type"] == "RollingUpdate" {
        for field in ["maxSurge", "maxUnavailable"] {
            if strategy["rollingUpdate"][field].is_null() {
                strategy["rollingUpdate"][field] = "25%".into();
            }
        }
    } else if !strategy["rollingUpdate"].is_null() {
        return Err(Failure::invalid(format!(
            "Deployment.apps {name:?} is invalid: spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
        )));
    }
    Ok(object)
}
