//! Performs operations that may need answers of external key store proxies: as often as it takes,
//! within a bound, with a call of a proxy before each time but the first.

use crate::api::handler::{Relaying, Thread, Weighed};
use crate::api::proxied::{OpenedThere, Proxied, SealedThere};
use crate::api::proxy_call::{Asked, ProxyCall};
use crate::api::proxy_refusal::in_use;
use crate::api::reach::{self, Reach};
use crate::api::{Answer, Api, ApiError, Requester};
use crate::envelope::external::{self, ExternalBlob, ProxyParts};
use crate::operation::Operation;
use crate::policy::steps::briefly;
use crate::xks_proxy;
use std::sync::Arc;

/// How often a request is performed at most: `ReEncrypt` needs two calls, an alias that moves
/// another one, and two more times are for threads on which it may take longer.
const TIMES_MAX: usize = 6;

/// The thread that a request is performed on next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    Own,
    AtLength,
}

impl Api {
    /// Performs an operation that may need answers of proxies.
    pub(super) async fn relayed(
        self: &Arc<Self>,
        handler: Relaying,
        operation: Operation,
        requester: &Requester,
        body: &[u8],
    ) -> Answer {
        let proxied = Proxied::default();
        match briefly(|| handler(self, requester, body, Thread::Async, &proxied)) {
            Ok(Some(reply)) => Ok(reply),
            Err(error) if !error.is_unfinished() => Err(error),
            // Rare, and so boxed: otherwise the future of every call would have room for it.
            ended => {
                let call = (handler, operation);
                Box::pin(self.continued(call, requester, body, ended, proxied)).await
            }
        }
    }

    /// Goes on with an operation that needs another thread, or the answer of a proxy.
    async fn continued(
        self: &Arc<Self>,
        (handler, operation): (Relaying, Operation),
        requester: &Requester,
        body: &[u8],
        mut ended: Weighed,
        mut proxied: Proxied,
    ) -> Answer {
        let mut place = Place::Here;
        for _ in 1..TIMES_MAX {
            match ended {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) if place == Place::Here => place = Place::Own,
                Ok(None) => break,
                Err(error) if error.is_undecided() && place != Place::AtLength => {
                    place = Place::AtLength;
                }
                Err(error) => {
                    let call = error.into_call()?;
                    self.ask(*call, operation, requester, &mut proxied).await?;
                }
            }
            (ended, proxied) = match place {
                Place::Here => {
                    let ended = briefly(|| handler(self, requester, body, Thread::Async, &proxied));
                    (ended, proxied)
                }
                Place::Own => {
                    let (api, who, body) = (Arc::clone(self), requester.clone(), body.to_vec());
                    let work = move || {
                        let ended = handler(&api, &who, &body, Thread::Own, &proxied);
                        (ended, proxied)
                    };
                    let done = tokio::task::spawn_blocking(work).await;
                    done.map_err(ApiError::internal)?
                }
                Place::AtLength => {
                    let work = move |api: &Arc<Self>, who: &Requester, body: &[u8]| {
                        let ended = handler(api, who, body, Thread::Own, &proxied);
                        (ended, proxied)
                    };
                    self.at_length_with(requester, body, work).await?
                }
            };
        }
        match ended {
            Ok(Some(reply)) => Ok(reply),
            Err(error) if !error.is_unfinished() => Err(error),
            _ => Err(ApiError::internal(
                "the keys of a request kept changing, or no thread was to its liking",
            )),
        }
    }

    /// Calls a proxy, and keeps its answer.
    async fn ask(
        &self,
        call: ProxyCall,
        operation: Operation,
        requester: &Requester,
        proxied: &mut Proxied,
    ) -> Result<(), ApiError> {
        let ProxyCall {
            by,
            store,
            additional,
            asked,
        } = call;
        let reach = Reach::of(self, &store)?;
        let id = by.key.key_store.as_ref().map(|store| &store.external_key);
        let missing = || ApiError::internal("a key in no external key store");
        let id = id.ok_or_else(missing)?;
        let metadata = reach::metadata(requester, operation, Some(&by.arn));
        let (proxies, reached) = (&self.xks_proxies, reach.store());
        match asked {
            Asked::Encrypt(text) => {
                let sealed = proxies
                    .encrypt(&reached, &metadata, id, text.bytes(), &additional)
                    .await;
                let sealed = sealed.map_err(|error| in_use(&error))?;
                let parts = ProxyParts {
                    vector: sealed.vector(),
                    metadata: sealed.metadata(),
                    ciphertext: sealed.ciphertext(),
                    tag: sealed.tag(),
                };
                let blob = external::encode(&text.header(), &parts);
                proxied.sealed = Some(SealedThere {
                    blob: blob.map_err(ApiError::internal)?,
                    by,
                    additional,
                    text,
                });
            }
            Asked::Decrypt(blob) => {
                let parsed = ExternalBlob::parse(&blob).map_err(ApiError::internal)?;
                let ProxyParts {
                    vector,
                    metadata: of_ciphertext,
                    ciphertext,
                    tag,
                } = parsed.parts();
                let sealed =
                    xks_proxy::Sealed::new(ciphertext.to_vec(), vector, *tag, of_ciphertext);
                let sealed = sealed.map_err(ApiError::internal)?;
                let text = proxies
                    .decrypt(&reached, &metadata, id, &sealed, &additional)
                    .await;
                proxied.opened = Some(OpenedThere {
                    text: text.map_err(|error| in_use(&error))?,
                    by,
                    additional,
                    blob,
                });
            }
        }
        Ok(())
    }
}
