//! Merge patches, plain and strategic.

use serde_json::{Map, Value};

/// RFC 7396, and of the strategic kind the one list that clients of this server patch by key: conditions.
pub(super) fn merge(target: &mut Value, patch: Value, strategic: bool) {
    let Value::Object(changes) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (name, change) in changes {
        // Strategic directives ($setElementOrder/…, $retainKeys) order lists; they are no fields.
        if strategic && name.starts_with('$') {
            continue;
        }
        match (change, fields.get_mut(&name)) {
            (Value::Null, _) => {
                fields.remove(&name);
            }
            (Value::Array(new), Some(Value::Array(old))) if strategic && name == "conditions" => {
                for condition in new {
                    match old.iter_mut().find(|known| known["type"] == condition["type"]) {
                        Some(known) => merge(known, condition, true),
                        None => old.push(condition),
                    }
                }
            }
            (change, Some(field)) => merge(field, change, strategic),
            (change, None) => {
                let mut field = Value::Null;
                merge(&mut field, change, strategic);
                fields.insert(name, field);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_replaces_lists_and_a_strategic_one_merges_conditions() {
        let before = json!({"status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}});
        let patch = json!({"status": {"phase": null, "conditions": [{"type": "Ready", "status": "True", "reason": null}, {"type": "Initialized", "status": "True"}]}});
        let mut merged = before.clone();
        merge(&mut merged, patch.clone(), true);
        assert_eq!(
            merged,
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}})
        );
        let mut replaced = before;
        merge(&mut replaced, patch.clone(), false);
        assert_eq!(replaced["status"]["conditions"], patch["status"]["conditions"]);
    }
}
