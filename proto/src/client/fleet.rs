//! An operator's calls about who may do what.

use super::{
    CHANGE_DEADLINE, CallResult, Link, PAGE, READ_DEADLINE, misunderstood, models, pages, plain, retried, timed,
};
use crate::convert::nested;
use crate::model::{NewToken, Revocation, TokenInfo};
use crate::pb;
use crate::pb::fleet_service_client::FleetServiceClient;

/// An operator's calls.
#[derive(Clone, Debug)]
pub struct FleetClient {
    service: FleetServiceClient<Link>,
}

impl FleetClient {
    /// Over this link, or a channel.
    pub fn new(link: impl Into<Link>) -> Self {
        Self { service: FleetServiceClient::new(link.into()) }
    }

    /// Makes a token known, by its hash. Safe to repeat.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT FIELD_INVALID`, `ALREADY_EXISTS TOKEN_EXISTS`.
    pub async fn create(&self, token: &NewToken) -> CallResult<TokenInfo> {
        let request = pb::CreateTokenRequest::from(token.clone());
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(request.clone(), CHANGE_DEADLINE);
            async move { plain(service.create_token(request).await) }
        });
        nested(response.await?.token, "token").map_err(misunderstood)
    }

    /// All tokens, oldest first (follows pages).
    ///
    /// # Errors
    /// `PERMISSION_DENIED ROLE_MISSING`.
    pub async fn list(&self) -> CallResult<Vec<TokenInfo>> {
        pages(|page_token| {
            let mut service = self.service.clone();
            let request = timed(pb::ListTokensRequest { page_size: PAGE, page_token }, READ_DEADLINE);
            async move { plain(service.list_tokens(request).await).map(|page| (page.tokens, page.next_page_token)) }
        })
        .await
    }

    /// Takes tokens back, and answers which. Safe to repeat.
    ///
    /// # Errors
    /// `NOT_FOUND TOKEN_NOT_FOUND`.
    pub async fn revoke(&self, which: &Revocation) -> CallResult<Vec<TokenInfo>> {
        let request = pb::RevokeTokensRequest::from(which.clone());
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(request.clone(), CHANGE_DEADLINE);
            async move { plain(service.revoke_tokens(request).await) }
        });
        models(response.await?.tokens)
    }
}
