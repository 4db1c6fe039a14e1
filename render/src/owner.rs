//! The screen for the pods of a controller: each cause in full once, and a line for each other pod that died of the same.

use lastwords_proto::v1::{Crash, ExplainOwnerResponse, ExplainPodResponse};
use prost_types::Timestamp;

use crate::escape::escape;
use crate::names::cause_words;
use crate::screen::explain_text;
use crate::time;

/// Pods without a crash that are named; the rest is counted.
const MOST_WITHOUT: usize = 10;

/// What is to be said of these pods, which are those of `asked`. Ends with a new line.
pub fn owner_text(answer: &ExplainOwnerResponse, asked: &str, now: &Timestamp, colour: bool) -> String {
    let (crashed, without): (Vec<&ExplainPodResponse>, Vec<&ExplainPodResponse>) =
        answer.pods.iter().partition(|of_pod| !of_pod.crashes.is_empty());
    let asked = if answer.owner.is_empty() { asked } else { &answer.owner };
    let mut text =
        format!("{}: {}, {} with crashes\n", escape(asked), pods(answer.pods.len()), crashed.len());
    let mut told: Vec<Vec<String>> = Vec::new();
    for of_pod in crashed {
        let verdicts = verdicts(of_pod);
        text.push('\n');
        if told.contains(&verdicts) {
            text.push_str(&format!(
                "{}  the same: {}{}\n",
                name(of_pod),
                verdicts.join(", "),
                of_pod.crashes.first().map_or_else(String::new, last)
            ));
        } else {
            text.push_str(&explain_text(of_pod, now, colour));
            told.push(verdicts);
        }
    }
    if !without.is_empty() {
        let mut names: Vec<String> = without.iter().take(MOST_WITHOUT).map(|of_pod| name(of_pod)).collect();
        let rest = without.len().saturating_sub(MOST_WITHOUT);
        if rest > 0 {
            names.push(format!("and {rest} more"));
        }
        text.push_str(&format!("\nNo crash is known of {}\n", names.join(", ")));
    }
    if answer.pods_left_out > 0 {
        text.push_str(&format!(
            "\n{} left out: explain them by their names\n",
            pods(usize::try_from(answer.pods_left_out).unwrap_or(usize::MAX))
        ));
    }
    text
}

fn pods(count: usize) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

fn name(of_pod: &ExplainPodResponse) -> String {
    of_pod
        .pod
        .as_ref()
        .map_or_else(String::new, |pod| format!("{}/{}", escape(&pod.namespace), escape(&pod.name)))
}

/// Container, cause and object of the newest crash of each container.
fn verdicts(of_pod: &ExplainPodResponse) -> Vec<String> {
    let mut containers: Vec<&str> = Vec::new();
    let mut verdicts = Vec::new();
    for crash in &of_pod.crashes {
        let container = crash.container.as_ref().map_or("", |container| container.name.as_str());
        if containers.contains(&container) {
            continue;
        }
        containers.push(container);
        let diagnosis = crash.diagnosis.clone().unwrap_or_default();
        let cause = cause_words(diagnosis.cause()).to_uppercase();
        let planned = if diagnosis.planned { " (planned)" } else { "" };
        verdicts.push(format!("{} {cause}{planned}: {}", escape(container), escape(&diagnosis.object)));
    }
    verdicts.sort();
    verdicts
}

fn last(crash: &Crash) -> String {
    crash.observed_at.as_ref().map_or_else(String::new, |at| format!(", last at {}", time::moment(at)))
}

#[cfg(test)]
mod tests {
    use lastwords_proto::v1::{Cause, Container, Diagnosis, Pod};

    use super::*;

    fn of_pod(name: &str, cause: Option<Cause>) -> ExplainPodResponse {
        let crash = |cause: Cause| Crash {
            container: Some(Container { name: "app".into(), pod_name: name.into(), ..Container::default() }),
            diagnosis: Some(Diagnosis {
                cause: cause.into(),
                summary: "what happened".into(),
                object: "memory limit 64Mi".into(),
                ..Diagnosis::default()
            }),
            ..Crash::default()
        };
        ExplainPodResponse {
            pod: Some(Pod { namespace: "shop".into(), name: name.into(), ..Pod::default() }),
            crashes: cause.map(crash).into_iter().collect(),
            ..ExplainPodResponse::default()
        }
    }

    #[test]
    fn what_was_planned_is_not_the_same_as_what_was_not() {
        let mut planned = [of_pod("a", Some(Cause::Killed)), of_pod("b", Some(Cause::Killed))];
        for of_pod in &mut planned {
            of_pod.crashes[0].diagnosis.as_mut().unwrap().planned = true;
        }
        let [a, b] = planned;
        let answer = ExplainOwnerResponse {
            owner: "deployment/api".into(),
            pods: vec![a, of_pod("c", Some(Cause::Killed)), b],
            pods_left_out: 0,
        };
        let text = owner_text(&answer, "", &Timestamp::default(), false);
        assert_eq!(text.matches("what happened").count(), 2, "{text}");
        assert!(text.contains("shop/b  the same: app KILLED (planned): memory limit 64Mi\n"), "{text}");
    }

    #[test]
    fn a_cause_is_told_in_full_once() {
        let answer = ExplainOwnerResponse {
            owner: "deployment/api".into(),
            pods: vec![
                of_pod("a", Some(Cause::OutOfMemory)),
                of_pod("b", Some(Cause::OutOfMemory)),
                of_pod("c", Some(Cause::Killed)),
                of_pod("d\u{1b}", None),
            ],
            pods_left_out: 3,
        };
        let text = owner_text(&answer, "", &Timestamp::default(), false);
        assert!(text.starts_with("deployment/api: 4 pods, 3 with crashes\n"), "{text}");
        assert_eq!(text.matches("what happened").count(), 2, "{text}");
        assert!(text.contains("shop/b  the same: app OUT OF MEMORY: memory limit 64Mi\n"), "{text}");
        assert!(text.contains("No crash is known of shop/d\\x1b\n"), "{text}");
        assert!(text.ends_with("3 pods left out: explain them by their names\n"), "{text}");
    }
}
