//! Who may do what, for operators.

use std::sync::Arc;

use paceline_proto::fault::Fault;
use paceline_proto::model::{NewToken, Revocation, TokenInfo};
use paceline_proto::pb;
use paceline_proto::pb::fleet_service_server::FleetService;
use tokio::task::spawn_blocking;
use tonic::{Request, Response};

use super::{Answer, accept, page, refuse};
use crate::credentials::Credentials;
use crate::gate::about;

/// Who may do what.
pub(crate) struct Fleet {
    credentials: Arc<Credentials>,
}

impl Fleet {
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials }
    }

    /// A change, on a thread that may wait for the disk.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Credentials) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let credentials = Arc::clone(&self.credentials);
        let changing = spawn_blocking(move || change(&credentials));
        changing.await.map_err(|error| Fault::Internal { reason: format!("change tokens: {error}") })?
    }
}

/// Where a token stands in the list: by age, then id.
fn mark(info: &TokenInfo) -> String {
    format!("{:020}-{}", info.created, info.id)
}

#[tonic::async_trait]
impl FleetService for Fleet {
    async fn create_token(&self, request: Request<pb::CreateTokenRequest>) -> Answer<pb::CreateTokenResponse> {
        let pb::CreateTokenRequest { id, holder, .. } = request.get_ref();
        about(&request, format_args!("{holder} {id}"));
        let token: NewToken = accept(request)?;
        let made = self.change(move |credentials| credentials.create(token)).await.map_err(refuse)?;
        Ok(Response::new(pb::CreateTokenResponse { token: Some(made.into()) }))
    }

    async fn list_tokens(&self, request: Request<pb::ListTokensRequest>) -> Answer<pb::ListTokensResponse> {
        let pb::ListTokensRequest { page_size, page_token } = request.into_inner();
        let after = page::position("tokens", &page_token).map_err(refuse)?.unwrap_or_default();
        let rest: Vec<TokenInfo> = self.credentials.list().into_iter().filter(|info| mark(info) > after).collect();
        let (tokens, next_page_token) = page::first(rest, "tokens", page_size, mark);
        Ok(Response::new(pb::ListTokensResponse {
            tokens: tokens.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn revoke_tokens(&self, request: Request<pb::RevokeTokensRequest>) -> Answer<pb::RevokeTokensResponse> {
        use pb::revoke_tokens_request::Which;
        match &request.get_ref().which {
            Some(Which::Id(id)) => about(&request, id),
            Some(Which::Worker(worker)) => about(&request, format_args!("worker {worker}")),
            None => {}
        }
        let which: Revocation = accept(request)?;
        let revoked = self.change(move |credentials| credentials.revoke(&which)).await.map_err(refuse)?;
        Ok(Response::new(pb::RevokeTokensResponse { tokens: revoked.into_iter().map(Into::into).collect() }))
    }
}
