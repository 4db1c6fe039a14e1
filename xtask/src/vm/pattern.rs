//! What a report has to say, as a JSON pattern: `deaths/README.md` has the rules for people who write one.

use serde_json::{Map, Value};

/// Words of the patterns themselves. No field of a report is called `any_of`, `not`, `at_least` or `at_most`; the others are told
/// from fields by what they stand against: an array.
#[cfg(test)]
pub(crate) const WORDS: &[&str] =
    &["any_of", "not", "at_least", "at_most", "exactly", "has", "none", "each", "count"];

/// How much of a value is shown in a fault.
const SHOWN: usize = 300;

/// Everything in which `actual` is not as `pattern` wants it, a line each with the place. Empty: it matches.
pub(crate) fn faults(pattern: &Value, actual: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    compare(pattern, actual, "", &mut faults);
    faults
}

fn matches(pattern: &Value, actual: &Value) -> bool {
    faults(pattern, actual).is_empty()
}

fn compare(pattern: &Value, actual: &Value, place: &str, faults: &mut Vec<String>) {
    match (pattern, actual) {
        (Value::Object(fields), _) if is_only(fields, &["any_of"]) => {
            let alternatives = fields.values().flat_map(Value::as_array).flatten();
            if !alternatives.into_iter().any(|one| matches(one, actual)) {
                faults.push(differs(pattern, actual, place));
            }
        }
        (Value::Object(fields), _) if is_only(fields, &["not"]) => {
            if fields.values().any(|one| matches(one, actual)) {
                faults.push(differs(pattern, actual, place));
            }
        }
        (Value::Object(fields), _) if is_only(fields, &["at_least", "at_most"]) => {
            let bound = |name: &str| fields.get(name).and_then(Value::as_f64);
            let inside = number(actual).is_some_and(|number| {
                bound("at_least").is_none_or(|least| number >= least)
                    && bound("at_most").is_none_or(|most| number <= most)
            });
            if !inside {
                faults.push(differs(pattern, actual, place));
            }
        }
        (Value::Array(wanted), Value::Array(elements)) => has(wanted, elements, place, faults),
        (Value::Object(rules), Value::Array(elements)) => list(rules, elements, place, faults),
        (Value::Object(fields), Value::Object(_)) => {
            for (name, pattern) in fields {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                compare(pattern, actual.get(name).unwrap_or(&Value::Null), &place, faults);
            }
        }
        (Value::String(wanted), Value::String(text)) if fits(wanted, text) => {}
        // 64-bit numbers are strings in proto3's JSON.
        (Value::Number(wanted), Value::String(text)) if wanted.to_string() == *text => {}
        (Value::Number(wanted), Value::Number(number)) if wanted.as_f64() == number.as_f64() => {}
        (Value::Bool(_) | Value::Null, _) if pattern == actual => {}
        _ => faults.push(differs(pattern, actual, place)),
    }
}

/// Every wanted element is there, in this order; others may stand before, between and after.
fn has(wanted: &[Value], elements: &[Value], place: &str, faults: &mut Vec<String>) {
    let mut rest = elements;
    for pattern in wanted {
        match rest.iter().position(|element| matches(pattern, element)) {
            Some(position) => rest = rest.get(position + 1..).unwrap_or_default(),
            None => {
                let nearest = rest.iter().map(|element| self::faults(pattern, element)).min_by_key(Vec::len);
                let nearest = nearest.map_or_else(
                    || "there are no more elements".to_owned(),
                    |faults| format!("the nearest has {}", faults.join(", ")),
                );
                faults.push(format!("{place}: no {}; {nearest}", shown(pattern)));
                return;
            }
        }
    }
}

fn list(rules: &Map<String, Value>, elements: &[Value], place: &str, faults: &mut Vec<String>) {
    for (rule, pattern) in rules {
        match (rule.as_str(), pattern) {
            ("has", Value::Array(wanted)) => has(wanted, elements, place, faults),
            ("exactly", Value::Array(wanted)) => {
                if wanted.len() == elements.len() {
                    for (index, (pattern, element)) in wanted.iter().zip(elements).enumerate() {
                        compare(pattern, element, &format!("{place}[{index}]"), faults);
                    }
                } else {
                    let all = shown(&Value::Array(elements.to_vec()));
                    faults.push(format!("{place}: {} instead of {}: {all}", elements.len(), wanted.len()));
                }
            }
            ("none", pattern) => {
                let found = elements.iter().filter(|element| matches(pattern, element));
                faults.extend(found.map(|element| format!("{place}: there is {}", shown(element))));
            }
            ("each", pattern) => {
                for (index, element) in elements.iter().enumerate() {
                    compare(pattern, element, &format!("{place}[{index}]"), faults);
                }
            }
            ("count", pattern) => {
                compare(pattern, &Value::from(elements.len()), &format!("{place}.count"), faults);
            }
            _ => faults.push(format!("{place}: {rule} is no rule for a list: see deaths/README.md")),
        }
    }
}

fn is_only(fields: &Map<String, Value>, names: &[&str]) -> bool {
    !fields.is_empty() && fields.keys().all(|name| names.contains(&name.as_str()))
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// Whether `text` is `wanted`, where each `*` stands for any text.
fn fits(wanted: &str, text: &str) -> bool {
    let mut parts = wanted.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

fn differs(pattern: &Value, actual: &Value, place: &str) -> String {
    format!("{place} is {} and not {}", shown(actual), shown(pattern))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn fit(pattern: Value, actual: Value) {
        assert_eq!(faults(&pattern, &actual), Vec::<String>::new());
    }

    #[track_caller]
    fn miss(pattern: Value, actual: Value) {
        assert!(!matches(&pattern, &actual), "{pattern} fits {actual}");
    }

    #[test]
    fn listed_fields_count_and_others_do_not() {
        fit(json!({"exit": {"code": 3}}), json!({"exit": {"code": 3, "signal": 0}, "node": "n"}));
        miss(json!({"exit": {"code": 3}}), json!({"exit": {"code": 4}}));
        miss(json!({"exit": {"code": 3}}), json!({"exit": null}));
        fit(json!({"process": null}), json!({}));
        miss(json!({"process": null}), json!({"process": {}}));
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (wanted, text, fits) in [
            ("SIGSEGV at *", "SIGSEGV at 0x0", true),
            ("SIGSEGV at *", "SIGILL at 0x0", false),
            ("*.so+0x*", "SIGSEGV at 0x0 in libfoo.so+0x1a2b", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("aa*aa", "aaa", false),
            ("a", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(&json!(wanted), &json!(text)), fits, "{wanted} {text}");
        }
    }

    #[test]
    fn numbers_are_exact_or_in_a_range_also_as_text() {
        fit(json!(20_971_520), json!("20971520"));
        miss(json!(20_971_520), json!("20971521"));
        fit(json!({"at_least": 1, "at_most": 5}), json!(5));
        fit(json!({"at_least": 1}), json!("17"));
        miss(json!({"at_least": 1}), json!(0));
        miss(json!({"at_most": 1}), Value::Null);
        miss(json!({"at_most": 1}), json!("none"));
    }

    #[test]
    fn elements_are_looked_for_in_their_order() {
        let list = json!([{"n": 1, "count": 7}, {"n": 2}, {"n": 3}]);
        fit(json!([{"n": 1}, {"n": 3}]), list.clone());
        miss(json!([{"n": 3}, {"n": 1}]), list.clone());
        miss(json!([{"n": 1}, {"n": 1}]), list.clone());
        fit(json!([]), list.clone());
        fit(json!([{"count": 7}]), list);
    }

    #[test]
    fn a_list_may_be_held_to_exact_elements_to_none_and_to_a_number() {
        let list = json!([{"n": 1}, {"n": 2}]);
        fit(json!({"exactly": [{"n": 1}, {"n": 2}]}), list.clone());
        miss(json!({"exactly": [{"n": 1}]}), list.clone());
        fit(json!({"exactly": []}), json!([]));
        fit(json!({"none": {"n": 3}}), list.clone());
        miss(json!({"none": {"n": 2}}), list.clone());
        fit(json!({"each": {"n": {"at_least": 1}}, "count": 2}), list.clone());
        miss(json!({"each": {"n": 1}}), list.clone());
        miss(json!({"count": {"at_least": 3}}), list.clone());
        fit(json!({"has": [{"n": 2}], "none": {"n": 3}}), list.clone());
        miss(json!({"hsa": [{"n": 2}]}), list);
    }

    #[test]
    fn one_of_several_and_anything_but() {
        fit(json!({"any_of": ["open", "openat"]}), json!("openat"));
        miss(json!({"any_of": ["open", "openat"]}), json!("creat"));
        fit(json!({"not": ""}), json!("x"));
        miss(json!({"not": ""}), json!(""));
    }

    #[test]
    fn a_fault_names_the_place_and_the_nearest_element() {
        let report =
            json!({"failures": [{"syscall": "open", "path": "/a"}, {"syscall": "mkdir", "path": "/c"}]});
        let found = faults(&json!({"failures": [{"syscall": "open", "path": "/b"}]}), &report);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains(r#"the nearest has path is "/a" and not "/b""#), "{found:?}");
    }
}
