//! Data key pairs: `GenerateDataKeyPair` and `GenerateDataKeyPairWithoutPlaintext`.
//!
//! A pair comes out of its lane, made before anybody asked, and is sealed under the KMS key and
//! bound to the context of whoever takes it. A request that finds none waits for one; it is checked
//! whole before it waits, and again when it has one. Unlike a data key, a pair's private key has
//! been in the clear in this process.

use crate::api::members::Members;
use crate::api::usability::data_key_material;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, ContextMember, Object, Text};
use crate::api::{
    Answer, Api, ApiError, KmsErrorCode, Reply, Requester, Under, dry_run, unsupported,
};
use crate::context::EncryptionContext;
use crate::crypto::pair::PairSpec;
use crate::envelope;
use crate::metrics::Metrics;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::pool::PooledPair;
use crate::pool::pairs::WaitError;
use crate::rates::Paid;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::sync::Arc;

/// `KeyPairSpec`
const PAIR_SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SM2, ECC_NIST_EDWARDS25519, \
     ML_KEM_512, ML_KEM_768, ML_KEM_1024";
/// Pairs that one request takes at most: the machine may be cloned while it has one.
const PAIRS_MAX: usize = 3;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    key_pair_spec: Text<'a>,
    encryption_context: Option<ContextMember>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    dry_run: Option<bool>,
    recipient: Option<IgnoredAny>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
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
    handed_out: [[[metrics::Counter; 2]; PairSpec::ALL.len()]; 2],
    throttled: metrics::Counter,
}

impl PairCounters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let of = |operation| {
            let of_spec = |spec: PairSpec| {
                ["miss", "hit"].map(|result| metrics.data_keys(operation, spec.name(), result))
            };
            PairSpec::ALL.map(of_spec)
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
struct Asked<'a> {
    variant: Variant,
    key_id: &'a str,
    spec: PairSpec,
    context: EncryptionContext,
    grant_tokens: Option<&'a [Cow<'a, str>]>,
    dry_run: Option<bool>,
}

/// `GenerateDataKeyPair`
pub(super) async fn with_plaintext(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    generate(&api, &requester, &body, Variant::WithPlaintext).await
}

/// `GenerateDataKeyPairWithoutPlaintext`
pub(super) async fn without_plaintext(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    generate(&api, &requester, &body, Variant::WithoutPlaintext).await
}

async fn generate(api: &Arc<Api>, requester: &Requester, body: &[u8], variant: Variant) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    let spec = input.key_pair_spec.as_deref();
    match spec {
        None => violations.null("keyPairSpec"),
        Some(spec) => violations.one_of("keyPairSpec", spec, PAIR_SPECS),
    }
    violations.grant_tokens(input.grant_tokens.as_deref());
    violations.check()?;
    let context = wire::context(input.encryption_context)?;
    // With a recipient the plaintext may leave only under the recipient's key, which is not built:
    // never ignored.
    if variant == Variant::WithPlaintext && input.recipient.is_some() {
        return Err(unsupported("Recipient"));
    }
    let spec = spec.unwrap_or_default();
    let asked = Asked {
        variant,
        key_id: key_id.unwrap_or_default(),
        spec: spec
            .parse()
            .map_err(|_| unsupported(&format!("KeyPairSpec {spec}")))?,
        context,
        grant_tokens: input.grant_tokens.as_deref(),
        dry_run: input.dry_run,
    };
    let mut paid = Paid::default();
    {
        let snapshot = api.keystore.snapshot();
        let under = api.under(requester, &snapshot)?;
        asked.work(api, &under, None, &mut paid)?;
    }
    for _ in 0..PAIRS_MAX {
        let (pair, hit) = asked.pair(api).await?;
        let reply = api.under_last_check(requester, |under| {
            asked.work(api, under, Some(&pair), &mut paid)
        })?;
        if let Some(reply) = reply {
            let counters = &api.counters.pairs.handed_out[variant as usize];
            counters[asked.spec as usize][usize::from(hit)].increment(1);
            return Ok(reply);
        }
    }
    Err(ApiError::internal("the machine kept being cloned"))
}

impl Asked<'_> {
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
                ApiError::new(
                    KmsErrorCode::ThrottlingException,
                    "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
                )
            }
        })
    }

    /// Checks the request, and answers it if there is a pair; none with one of another clone word.
    fn work(
        &self,
        api: &Api,
        under: &Under<'_>,
        pair: Option<&PooledPair>,
        paid: &mut Paid,
    ) -> Result<Option<Reply>, ApiError> {
        let named = [(ConditionKey::DataKeyPairSpec, self.spec.name())];
        let caller = under.caller(self.variant.action()).under(&self.context);
        let caller = caller.with(Members::Texts(&named));
        let request = caller.key(self.key_id, under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], self.grant_tokens)?;
        let material = data_key_material(entry, caller.action.bare_name())?;
        api.charge(under, Some(entry.key.id), paid)?;
        dry_run(self.dry_run)?;
        let Some(pair) = pair.filter(|pair| pair.clone_word == under.clone_word) else {
            return Ok(None);
        };
        let private = pair.key.expose_der();
        let blob = envelope::seal(entry.key.id, material, &self.context, private, &api.entropy)?;
        let mut object = Object::new();
        object.base64("PrivateKeyCiphertextBlob", &blob);
        if self.variant == Variant::WithPlaintext {
            object.base64("PrivateKeyPlaintext", private);
        }
        object.base64("PublicKey", pair.key.public_der());
        object.plain("KeyId", &entry.arn);
        object.plain("KeyPairSpec", self.spec.name());
        object.material_id("KeyMaterialId", material.id());
        Ok(Some(object.end().about(entry).with(Some(material))))
    }
}
