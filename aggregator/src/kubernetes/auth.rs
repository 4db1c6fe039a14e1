//! Asks the Kubernetes API who somebody is (TokenReview) and what they may read (SubjectAccessReview).

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::OnceCell;

use super::connect::{self, Access};
use crate::caller::User;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// No answer came, for this reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(String);

/// Asks.
pub struct Reviewer {
    access: Access,
    client: OnceCell<Client>,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reviewer").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Reviewer {
    /// Asks the API that is reached so.
    pub fn new(access: Access) -> Self {
        Self { access, client: OnceCell::new() }
    }

    /// The user whose token this is. None when it is nobody's, has ended, or is not for this audience (without one: for the API).
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn user(&self, token: &str, audience: Option<&str>) -> Result<Option<User>, Unanswered> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: audience.map(|audience| vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let status = self.ask(review).await?.status.unwrap_or_default();
        // An authenticator that knows no audiences answers without any.
        let for_us = audience
            .is_none_or(|wanted| status.audiences.iter().flatten().any(|audience| audience == wanted));
        let user = status.user.filter(|_| status.authenticated == Some(true) && for_us);
        Ok(user.map(User::from).filter(|user| !user.name.is_empty()))
    }

    /// Whether the user may read the logs of pods in this namespace; of all when it is empty.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn may_read_logs(&self, user: &User, namespace: &str) -> Result<bool, Unanswered> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    verb: Some("get".to_owned()),
                    resource: Some("pods".to_owned()),
                    subresource: Some("log".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let status = self.ask(review).await?.status.unwrap_or_default();
        Ok(status.allowed && status.denied != Some(true))
    }

    /// The namespace that this program runs in.
    ///
    /// # Errors
    /// When there is no configuration by which the API could be reached.
    pub async fn own_namespace(&self) -> Result<&str, Unanswered> {
        Ok(self.client().await?.default_namespace())
    }

    async fn ask<K>(&self, review: K) -> Result<K, Unanswered>
    where
        K: kube::Resource<DynamicType = ()> + serde::Serialize + serde::de::DeserializeOwned + Clone,
        K: std::fmt::Debug,
    {
        let api: Api<K> = Api::all(self.client().await?.clone());
        let parameters = PostParams::default();
        match tokio::time::timeout(ANSWER, api.create(&parameters, &review)).await {
            Ok(Ok(answered)) => Ok(answered),
            Ok(Err(error)) => Err(Unanswered(crate::causes(&error))),
            Err(_) => Err(Unanswered(format!("no answer within {ANSWER:?}"))),
        }
    }

    async fn client(&self) -> Result<&Client, Unanswered> {
        self.client.get_or_try_init(|| connect::client(&self.access)).await.map_err(Unanswered)
    }
}

impl From<UserInfo> for User {
    fn from(info: UserInfo) -> Self {
        Self {
            name: info.username.unwrap_or_default(),
            uid: info.uid.unwrap_or_default(),
            groups: info.groups.unwrap_or_default(),
            extra: info.extra.unwrap_or_default(),
        }
    }
}
