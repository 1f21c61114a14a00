//! Data key pairs: `GenerateDataKeyPair` and `GenerateDataKeyPairWithoutPlaintext`.
//!
//! A pair comes out of its lane, where it was made in advance. It is sealed under the KMS key and
//! bound to the context of the request that takes it. A request that finds none waits for one; it
//! is checked whole before it waits, and again when it has one. Unlike a data key, a pair's private
//! key has been in the clear in this process.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::recipient::{Receiver, Recipient};
use crate::api::throttling::too_many_calls;
use crate::api::usability::material;
use crate::api::validation::Violations;
use crate::api::wire::{self, ContextMember, Object, Text};
use crate::api::{Answer, Api, ApiError, Reply, Requester, unsupported};
use crate::context::EncryptionContext;
use crate::crypto::pair::PairSpec;
use crate::envelope;
use crate::key::regions::Region;
use crate::key::spec::KeySpec;
use crate::metrics::Metrics;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::pool::PooledPair;
use crate::pool::pairs::WaitError;
use crate::rates::Paid;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

/// `KeyPairSpec`
const PAIR_SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SM2, ECC_NIST_EDWARDS25519, \
     ML_KEM_512, ML_KEM_768, ML_KEM_1024";
/// Pairs that one request takes at most: the machine may be cloned while it has one.
const PAIRS_MAX: usize = 3;

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        key_pair_spec: Text<'a>,
        encryption_context: ContextMember,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        dry_run: Option<bool>,
        recipient: Option<&'a RawValue>,
    }
}

#[derive(Clone, Copy)]
enum Variant {
    WithPlaintext,
    WithoutPlaintext,
}

impl Variant {
    const fn action(self) -> Action {
        match self {
            Self::WithPlaintext => Action::GenerateDataKeyPair,
            Self::WithoutPlaintext => Action::GenerateDataKeyPairWithoutPlaintext,
        }
    }
}

/// Pairs handed out, by operation, spec, and whether the pool had one; and requests turned away.
pub(super) struct PairCounters {
    handed_out: [[[metrics::Counter; 2]; PairSpec::DATA_KEYS.len()]; 2],
    throttled: metrics::Counter,
}

impl PairCounters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let of = |operation| {
            let of_spec = |spec: PairSpec| {
                ["miss", "hit"].map(|result| metrics.data_keys(operation, spec.name(), result))
            };
            PairSpec::DATA_KEYS.map(of_spec)
        };
        Self {
            handed_out: [
                of("GenerateDataKeyPair"),
                of("GenerateDataKeyPairWithoutPlaintext"),
            ],
            throttled: metrics.throttled("pairs"),
        }
    }
}

/// What a request asks for, its members checked.
struct Checked<'a> {
    /// Who gets the private key in the clear; `None`: it is in the blob alone.
    receiver: Option<&'a Receiver>,
    key: KeyReference<'a>,
    spec: PairSpec,
    context: &'a EncryptionContext,
    grant_tokens: &'a [Cow<'a, str>],
    dry_run: bool,
}

/// `GenerateDataKeyPair`
pub(super) async fn with_plaintext(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let recipient = Recipient::read(&api, input.recipient)?;
    let mut violations = Violations::default();
    recipient.check(&mut violations);
    let checked = check(&input, violations, api.keystore.regions().home())?;
    let receiver = recipient.receiver_elsewhere(&api, &requester).await?;
    let receiver = Some(&receiver);
    generate(
        &api,
        &requester,
        Checked {
            receiver,
            ..checked
        },
    )
    .await
}

/// `GenerateDataKeyPairWithoutPlaintext`
pub(super) async fn without_plaintext(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let region = api.keystore.regions().home();
    let checked = check(&input, Violations::default(), region)?;
    generate(&api, &requester, checked).await
}

fn check<'a>(
    input: &'a Input<'_>,
    mut violations: Violations,
    region: &Region,
) -> Result<Checked<'a>, ApiError> {
    let key = violations.key_id("keyId", &input.key_id);
    let spec =
        violations.required_one_of("keyPairSpec", input.key_pair_spec.as_deref(), PAIR_SPECS);
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    let (key, spec, grant_tokens) = violations.check((key, spec, grant_tokens))?;
    let context = input.encryption_context.sound()?;
    let built = spec.parse().ok();
    let built = built.filter(|spec| KeySpec::Pair(*spec).is_offered_in(region));
    Ok(Checked {
        receiver: None,
        key,
        spec: built.ok_or_else(|| unsupported(&format!("KeyPairSpec {spec}")))?,
        context,
        grant_tokens,
        dry_run: input.dry_run == Some(true),
    })
}

async fn generate(api: &Arc<Api>, requester: &Requester, checked: Checked<'_>) -> Answer {
    // It outlives the attempts before a pair is there.
    let paid = RefCell::new(checked.receiver.map_or_else(Paid::default, Receiver::paid));
    api.read(requester, |attempt| checked.work(attempt, None, &paid))?;
    for _ in 0..PAIRS_MAX {
        let (pair, hit) = checked.pair(api).await?;
        let reply = api.under_last_check(requester, |attempt| {
            checked.work(attempt, Some(&pair), &paid)
        })?;
        if let Some(reply) = reply {
            let counters = &api.counters.pairs.handed_out[checked.variant() as usize];
            counters[checked.spec as usize][usize::from(hit)].increment(1);
            return Ok(reply);
        }
    }
    Err(ApiError::internal("the machine kept being cloned"))
}

impl Checked<'_> {
    fn variant(&self) -> Variant {
        match self.receiver {
            Some(_) => Variant::WithPlaintext,
            None => Variant::WithoutPlaintext,
        }
    }

    /// A pair of the lane, or the next one made; and whether the lane had it.
    async fn pair(&self, api: &Api) -> Result<(PooledPair, bool), ApiError> {
        let pairs = api.pool.pairs();
        if let Some(pair) = pairs.take(self.spec, api.clone_word.read()) {
            return Ok((pair, true));
        }
        let made = pairs.wait(self.spec).await;
        made.map(|pair| (pair, false)).map_err(|error| match error {
            WaitError::NotMade => ApiError::internal(error),
            WaitError::Busy => {
                api.counters.pairs.throttled.increment(1);
                too_many_calls()
            }
        })
    }

    /// Admits the request, and answers it if there is a pair that was made under this attempt's
    /// clone word.
    fn work(
        &self,
        attempt: &Attempt<'_>,
        pair: Option<&PooledPair>,
        paid: &RefCell<Paid>,
    ) -> Result<Option<Reply>, ApiError> {
        let named = [(ConditionKey::DataKeyPairSpec, self.spec.name())];
        let ask = Ask::on(self.variant().action(), &self.key)
            .context(self.context)
            .members(match self.receiver {
                Some(receiver) => receiver.members(&named),
                None => Members::Texts(&named),
            })
            .grant_tokens(self.grant_tokens)
            .dry_run(self.dry_run);
        let admitted = {
            attempt.paid.swap(paid);
            let admitted = attempt.admit(ask, |entry| material(entry));
            attempt.paid.swap(paid);
            admitted?
        };
        let Some(pair) = pair.filter(|pair| pair.clone_word == attempt.clone_word) else {
            return Ok(None);
        };
        let (entry, material) = (admitted.entry(), admitted.prepared);
        let (private, entropy) = (pair.key.expose_der(), &attempt.api.entropy);
        let blob = envelope::seal(entry.key.id, material, self.context, private, entropy)?;
        let mut object = Object::new();
        object.base64("PrivateKeyCiphertextBlob", &blob);
        if let Some(receiver) = self.receiver {
            receiver.put(attempt.api, &mut object, "PrivateKeyPlaintext", private)?;
        }
        object.base64("PublicKey", pair.key.public_der());
        object.plain("KeyId", &entry.arn);
        object.plain("KeyPairSpec", self.spec.name());
        object.material_id("KeyMaterialId", material.id());
        let reply = object.end().with(Some(material));
        let reply = match self.receiver {
            Some(receiver) => receiver.note(reply),
            None => reply,
        };
        admitted.answer(reply).map(Some)
    }
}
