//! An operator's calls about who may do what.

use super::{CHANGE_DEADLINE, CallResult, Link, PAGE, READ_DEADLINE, misunderstood, plain, retried, timed};
use crate::convert::{Converted, nested};
use crate::model::{NewToken, Revocation, TokenInfo};
use crate::pb;
use crate::pb::fleet_service_client::FleetServiceClient;

/// An operator's calls.
#[derive(Clone, Debug)]
pub struct FleetClient {
    service: FleetServiceClient<Link>,
}

fn infos(tokens: Vec<pb::TokenInfo>) -> CallResult<Vec<TokenInfo>> {
    let tokens: Converted<Vec<TokenInfo>> = tokens.into_iter().map(TryInto::try_into).collect();
    tokens.map_err(misunderstood)
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
        let (mut tokens, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListTokensRequest { page_size: PAGE, page_token };
            let response = retried(|| {
                let mut service = self.service.clone();
                let request = timed(request.clone(), READ_DEADLINE);
                async move { plain(service.list_tokens(request).await) }
            })
            .await?;
            tokens.extend(infos(response.tokens)?);
            page_token = response.next_page_token;
            if page_token.is_empty() {
                return Ok(tokens);
            }
        }
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
        infos(response.await?.tokens)
    }
}
