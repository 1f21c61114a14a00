//! `ReadStore`: the operator reads the whole store, for a check or a backup.

use crate::api::Requester;
use crate::backup::frames::MEDIA_TYPE;
use crate::transport::answered::{Answered, PartedBody, Streamed};
use crate::transport::caller::Caller;
use crate::transport::http::{HttpEndpoint, Refusal};
use crate::transport::parts::Answer;
use crate::transport::store::StoreParts;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body_util::Either;

impl HttpEndpoint {
    /// Answers with every record of the store, each authenticated.
    pub(super) async fn store(
        &self,
        caller: &Caller,
        requester: &Requester,
        body: &[u8],
    ) -> Result<Response<Answered>, Refusal> {
        let clock = &self.service.clock;
        let reading = self.service.api.read_store(requester, body).await?;
        let parts = StoreParts::new(reading, self.service.keystore.node(), clock);
        let answer = Answer::begin(requester.request_id, parts).await;
        let answer = answer.map_err(|(error, _)| error)?;
        let body = PartedBody::Right(Either::Right(answer));
        let mut response = Response::new(Streamed::new(body, &caller.place, clock));
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        Ok(response)
    }
}
