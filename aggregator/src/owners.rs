//! Which pods a person means by `deployment/api`, `cronjob/backup` or `app=api,tier!=cache`.
//!
//! Pure. Told from what the pods themselves carry, so that nothing but pods has to be read from the API.

use crate::pods::Pod;

/// Requirements of one selector at most.
const MOST_REQUIREMENTS: usize = 32;

/// A controller, or labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Kind and name, the kind in its singular: `deployment`, `api`.
    Owner(String, String),
    /// All of these hold.
    Labels(Vec<Requirement>),
}

/// What a selector demands of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    label: String,
    /// Empty: the label is there, with any value.
    values: Vec<String>,
    /// True when that must not be so.
    not: bool,
}

impl Whose {
    /// By kind and name as kubectl takes them: `deploy`, `deployments`, `deployment.apps`.
    pub fn owner(kind: &str, name: &str) -> Self {
        let kind = kind.to_ascii_lowercase();
        let kind = kind.split('.').next().unwrap_or_default();
        let singular = match kind {
            "deploy" | "deployments" => "deployment",
            "sts" | "statefulsets" => "statefulset",
            "ds" | "daemonsets" => "daemonset",
            "rs" | "replicasets" => "replicaset",
            "rc" | "replicationcontrollers" => "replicationcontroller",
            "jobs" => "job",
            "cj" | "cronjobs" => "cronjob",
            other => other,
        };
        Self::Owner(singular.to_owned(), name.to_owned())
    }

    /// By a label selector as kubectl takes it.
    ///
    /// # Errors
    /// When it is none, with what is wrong.
    pub fn labels(selector: &str) -> Result<Self, String> {
        let requirements: Vec<Requirement> = parts(selector).map(requirement).collect::<Result<_, _>>()?;
        if requirements.is_empty() || requirements.len() > MOST_REQUIREMENTS {
            return Err(format!("a selector has one to {MOST_REQUIREMENTS} requirements, as in app=api"));
        }
        Ok(Self::Labels(requirements))
    }

    /// True when this pod is meant.
    pub fn has(&self, pod: &Pod) -> bool {
        match self {
            Self::Owner(kind, name) => {
                let is_controller = pod.controller.split_once('/') == Some((kind.as_str(), name.as_str()));
                is_controller || self.is_owner(&pod.owner)
            }
            Self::Labels(requirements) => requirements.iter().all(|requirement| requirement.holds(pod)),
        }
    }

    /// True for the owner as a pod carries it. A CronJob is told by the names of its Jobs: its own and the minute.
    pub fn is_owner(&self, owner: &str) -> bool {
        let Self::Owner(kind, name) = self else { return false };
        match owner.split_once('/') {
            Some(("job", job)) if kind == "cronjob" => {
                let minute = job.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-'));
                minute.is_some_and(|minute| {
                    !minute.is_empty() && minute.bytes().all(|byte| byte.is_ascii_digit())
                })
            }
            Some(owner) => owner == (kind.as_str(), name.as_str()),
            None => false,
        }
    }

    /// `deployment/api`; empty for labels.
    pub fn in_words(&self) -> String {
        match self {
            Self::Owner(kind, name) => format!("{kind}/{name}"),
            Self::Labels(_) => String::new(),
        }
    }
}

impl Requirement {
    fn holds(&self, pod: &Pod) -> bool {
        let value = pod.labels.iter().find(|(label, _)| *label == self.label).map(|(_, value)| value);
        let is = value.is_some_and(|value| self.values.is_empty() || self.values.contains(value));
        is != self.not
    }
}

/// Divided at commas that stand in no brackets.
fn parts(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    let divide = move |character: char| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    };
    selector.split(divide).map(str::trim).filter(|part| !part.is_empty())
}

/// `a=b`, `a==b`, `a!=b`, `a in (b, c)`, `a notin (b, c)`, `a`, `!a`.
fn requirement(part: &str) -> Result<Requirement, String> {
    let wrong =
        || format!("{part:?} is no requirement: write app=api, app!=api, app in (api, web), app or !app");
    let made = |label: &str, values: Vec<String>, not: bool| {
        let is_word =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        let sound = !label.is_empty() && is_word(label) && values.iter().all(|value| is_word(value));
        sound.then(|| Requirement { label: label.to_owned(), values, not }).ok_or_else(wrong)
    };
    let one = |value: &str| vec![value.trim().trim_start_matches('=').trim().to_owned()];
    if let Some(label) = part.strip_prefix('!') {
        return made(label.trim(), Vec::new(), true);
    }
    if let Some((label, value)) = part.split_once("!=") {
        return made(label.trim(), one(value), true);
    }
    if let Some((label, value)) = part.split_once('=') {
        return made(label.trim(), one(value), false);
    }
    if let Some((front, values)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match front.trim().rsplit_once(' ') {
            Some((label, "in")) => made(label.trim(), values, false),
            Some((label, "notin")) => made(label.trim(), values, true),
            _ => Err(wrong()),
        };
    }
    made(part, Vec::new(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(owner: &str, controller: &str, labels: &[(&str, &str)]) -> Pod {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        Pod {
            owner: owner.to_owned(),
            controller: controller.to_owned(),
            labels: labels.collect(),
            ..Pod::default()
        }
    }

    #[test]
    fn controllers_by_their_names() {
        let of_deployment = pod("deployment/api", "replicaset/api-5d8", &[]);
        for (kind, name, is) in [
            ("deployment", "api", true),
            ("deploy", "api", true),
            ("Deployments.apps", "api", true),
            ("rs", "api-5d8", true),
            ("deployment", "api-5d8", false),
            ("statefulset", "api", false),
        ] {
            assert_eq!(Whose::owner(kind, name).has(&of_deployment), is, "{kind}/{name}");
        }
        let of_job = pod("job/backup-29390400", "", &[]);
        for (kind, name, is) in [
            ("cronjob", "backup", true),
            ("cj", "backup-29390400", false),
            ("job", "backup-29390400", true),
            ("cronjob", "back", false),
            ("job", "backup", false),
        ] {
            assert_eq!(Whose::owner(kind, name).has(&of_job), is, "{kind}/{name}");
        }
        assert!(Whose::owner("rollout", "web").has(&pod("rollout/web", "", &[])));
        assert!(!Whose::owner("", "").has(&pod("", "", &[])));
    }

    #[test]
    fn labels_as_kubectl_takes_them() {
        let api = pod("", "", &[("app", "api"), ("tier", "front")]);
        for (selector, is) in [
            ("app=api", true),
            ("app==api", true),
            ("app=web", false),
            ("app!=web,tier=front", true),
            ("app=api,tier!=front", false),
            ("app in (web, api)", true),
            ("app in (web,ape), tier", false),
            ("app notin (web)", true),
            ("canary notin (yes)", true),
            ("tier", true),
            ("!tier", false),
            ("!canary", true),
            ("canary!=yes", true),
        ] {
            assert_eq!(Whose::labels(selector).unwrap().has(&api), is, "{selector}");
        }
        for wrong in ["", ",", "app=a b", "app of (a)", "=a", "app in a", "(a)", "ap p"] {
            assert!(Whose::labels(wrong).is_err(), "{wrong}");
        }
    }
}
