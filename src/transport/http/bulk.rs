//! Answers that are made part by part: batches of data keys and streams of containers.

use crate::api::{ApiError, ErrorCode, RequestId};
use crate::auth::ScopeService;
use crate::stream::data_keys::{BLOB_BYTES, KEY_ARN, KEY_MATERIAL_ID};
use crate::stream::{MEDIA_TYPE, Purpose};
use crate::transport::answered::{Answered, Streamed};
use crate::transport::batch::{Batch, lost};
use crate::transport::bind::{Bounds, Input, Stream};
use crate::transport::caller::Caller;
use crate::transport::http::{HttpEndpoint, Refusal, claims_a_signature, of_connection, requester};
use crate::transport::parts::Answer;
use crate::transport::request_body::RequestBody;
use crate::transport::route::{self, Form};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Either;
use std::sync::Arc;
use std::time::Duration;

impl HttpEndpoint {
    /// Answers with a batch of data keys.
    pub(super) async fn data_keys(
        &self,
        id: RequestId,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        let (requester, body) = self
            .authenticate(ScopeService::Kms, id, caller, head, body)
            .await?;
        let form = Form::accepted(&head.headers).ok_or_else(not_acceptable)?;
        let (api, makers) = (Arc::clone(&self.service.api), self.service.makers.clone());
        let patience = Duration::from_millis(self.service.limits.write_timeout_ms);
        // The makers also decide whether the caller may: that may take as long as a chunk.
        let begin = move || {
            let keys = api.data_keys(&requester, &body)?;
            Batch::new(keys, form, makers, patience)
        };
        let batch = self.service.makers.make(begin).await.ok_or_else(lost)??;
        let keys = batch.keys().ok_or_else(lost)?;
        let text = |value: &str| HeaderValue::from_str(value).map_err(ApiError::internal);
        let arn = text(keys.key_arn())?;
        let material_id = text(&keys.material().to_string())?;
        let blob_bytes = HeaderValue::from(keys.blob_bytes());
        let answer = Answer::begin(id, batch).await.map_err(|(error, _)| error)?;
        let body = Streamed::new(Either::Left(answer), &caller.place, &self.service.clock);
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static(form.media_type());
        headers.insert(CONTENT_TYPE, media_type);
        headers.insert(KEY_ARN, arn);
        headers.insert(KEY_MATERIAL_ID, material_id);
        headers.insert(BLOB_BYTES, blob_bytes);
        Ok(response)
    }

    /// Answers a stream of containers while its body arrives. A signed body is read whole first,
    /// because its signature covers all of it.
    pub(super) async fn containers(
        &self,
        id: RequestId,
        purpose: Purpose,
        caller: &Caller,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answered>, Refusal> {
        let (requester, input) = if claims_a_signature(head) {
            let (requester, whole) = self
                .authenticate(ScopeService::Kms, id, caller, head, body)
                .await?;
            (requester, Input::Whole(Some(whole)))
        } else {
            let (now, snapshot) = (self.service.clock.now(), self.service.keystore.snapshot());
            let principal = of_connection(caller, now, &snapshot)
                .map_err(|error| self.unknown(id, caller, head, error))?;
            caller.place.begin();
            let incoming = body.incoming.take().map(Box::new);
            (
                requester(id, principal, caller, head),
                Input::Streamed(incoming),
            )
        };
        // A refused stream gives its body back, so that the connection can be used again.
        let query = head.uri.query().unwrap_or_default();
        let makers = self.service.makers.clone();
        let admitted = self
            .service
            .api
            .containers(&requester, purpose, query)
            .and_then(|mut stream| {
                match makers.streams.take(requester.principal.lasting_arn(), 1) {
                    Some(share) => Ok((stream, share)),
                    None => Err(stream.end(too_many())),
                }
            });
        let (stream, share) = match admitted {
            Ok(stream) => stream,
            Err(error) => {
                body.incoming = body.incoming.take().or_else(|| input.into_incoming());
                return Err(error.into());
            }
        };
        let config = &self.service.limits;
        let bounds = Bounds {
            makers,
            patience: Duration::from_millis(config.write_timeout_ms),
            idle: Duration::from_millis(config.body_timeout_ms),
            _share: share,
        };
        match Answer::begin(id, Stream::new(stream, input, bounds)).await {
            Ok(answer) => {
                let clock = &self.service.clock;
                let answer =
                    Streamed::new(Either::Right(Either::Left(answer)), &caller.place, clock);
                let mut response = Response::new(answer);
                let media_type = HeaderValue::from_static(MEDIA_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, media_type);
                Ok(response)
            }
            Err((error, stream)) => {
                body.incoming = body.incoming.take().or_else(|| stream.into_incoming());
                Err(error.into())
            }
        }
    }
}

fn too_many() -> ApiError {
    let message = "Too many streams of containers are open. Read those that are open to their end, or try again.";
    ApiError::new(ErrorCode::ThrottlingException, message)
}

pub(super) fn not_acceptable() -> Refusal {
    let message = format!("A batch is answered as one of: {}.", route::FORMS);
    let error = ApiError::new(ErrorCode::UnsupportedOperationException, message);
    Refusal::Api(StatusCode::NOT_ACCEPTABLE, error)
}
