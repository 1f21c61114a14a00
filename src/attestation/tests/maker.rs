//! Makes attestation documents as a hypervisor does, under a root of its own, by libraries: `rcgen`
//! issues the certificates, `coset` and `ciborium` write, aws-lc signs.

use crate::attestation::Roots;
use crate::clock::Timestamp;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use coset::cbor::Value;
use coset::iana::Algorithm;
use coset::{CoseSign1, CoseSign1Builder, Header, HeaderBuilder, TaggedCborSerializable};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

/// When documents are made.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_123_456);

/// A certificate of a chain, before it is issued.
pub(crate) struct Link {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
}

impl Link {
    /// An authority.
    pub(crate) fn authority(name: &str) -> Self {
        let mut link = Self::new(name);
        link.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        link.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        link
    }

    /// The certificate of a module, which signs documents.
    pub(crate) fn module() -> Self {
        let mut link = Self::new("i-0abc-enc0def.us-east-1.aws");
        link.params.is_ca = IsCa::ExplicitNoCa;
        link.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        link
    }

    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2023, 1, 1);
        params.not_after = date_time_ymd(2024, 1, 1);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        Self { params, key }
    }
}

/// A chain, and the key that signs documents.
pub(crate) struct Maker {
    pub(crate) bundle: Vec<Vec<u8>>,
    pub(crate) certificate: Vec<u8>,
    signer: KeyPair,
}

impl Maker {
    /// A root, two authorities, and a module.
    pub(crate) fn new() -> Self {
        Self::of(Self::links())
    }

    /// The certificates of the usual chain, from the root on.
    pub(crate) fn links() -> Vec<Link> {
        let names = ["test.nitro-enclaves", "us-east-1.test", "zonal.test"];
        let mut links: Vec<_> = names.into_iter().map(Link::authority).collect();
        links.push(Link::module());
        links
    }

    /// Issues these certificates, each by the one before it.
    pub(crate) fn of(links: Vec<Link>) -> Self {
        let mut ders: Vec<Vec<u8>> = Vec::new();
        let mut above: Option<&Link> = None;
        for link in &links {
            let issued = match above {
                None => link.params.self_signed(&link.key),
                Some(above) => {
                    let issuer = Issuer::from_params(&above.params, &above.key);
                    link.params.signed_by(&link.key, &issuer)
                }
            };
            ders.push(issued.unwrap().der().to_vec());
            above = Some(link);
        }
        let certificate = ders.pop().unwrap();
        let signer = links.into_iter().next_back().unwrap().key;
        Self {
            bundle: ders,
            certificate,
            signer,
        }
    }

    /// Its root, as a configured one.
    pub(crate) fn roots(&self) -> Roots {
        Roots::of(vec![self.bundle[0].clone()])
    }

    /// The members of a document of an enclave.
    pub(crate) fn enclave(&self, public_key: &[u8]) -> Payload {
        let register = |index: u8| (Value::from(index), Value::Bytes(vec![index; 48]));
        let bytes = |bytes: &Vec<u8>| Value::Bytes(bytes.clone());
        Payload(vec![
            ("module_id".into(), "i-0abc-enc0def".into()),
            ("digest".into(), "SHA384".into()),
            ("timestamp".into(), (NOW.0 / 1000).into()),
            ("pcrs".into(), Value::Map((0..16).map(register).collect())),
            ("certificate".into(), bytes(&self.certificate)),
            (
                "cabundle".into(),
                Value::Array(self.bundle.iter().map(bytes).collect()),
            ),
            ("public_key".into(), Value::Bytes(public_key.to_vec())),
            ("user_data".into(), Value::Null),
            ("nonce".into(), Value::Null),
        ])
    }

    /// The members of a document of a TPM.
    pub(crate) fn tpm(&self, public_key: &[u8]) -> Payload {
        let register = |index: u8| (Value::from(index), Value::Bytes(vec![index; 48]));
        let registers = Value::Map((0..24).map(register).collect());
        self.enclave(public_key)
            .with("module_id", "i-0abc-tpm0def".into())
            .without("pcrs")
            .with("nitrotpm_pcrs", registers)
    }

    /// A signed document with these members.
    pub(crate) fn document(&self, payload: Payload) -> Vec<u8> {
        self.signed(payload.bytes()).to_tagged_vec().unwrap()
    }

    /// A signed structure around these bytes.
    pub(crate) fn signed(&self, payload: Vec<u8>) -> CoseSign1 {
        let protected = HeaderBuilder::new().algorithm(Algorithm::ES384).build();
        self.signed_with(protected, payload)
    }

    /// A signed structure with this protected header.
    pub(crate) fn signed_with(&self, protected: Header, payload: Vec<u8>) -> CoseSign1 {
        let builder = CoseSign1Builder::new()
            .protected(protected)
            .payload(payload);
        builder
            .create_signature(b"", |text| self.sign(text))
            .build()
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let der = self.signer.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &der).unwrap();
        let signature = key.sign(&SystemRandom::new(), text).unwrap();
        signature.as_ref().to_vec()
    }
}

/// The members of a document.
#[derive(Clone)]
pub(crate) struct Payload(Vec<(Value, Value)>);

impl Payload {
    /// With this member, in the place of the one of its name.
    pub(crate) fn with(self, name: &str, value: Value) -> Self {
        let mut payload = self.without(name);
        payload.0.push((name.into(), value));
        payload
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(found, _)| found.as_text() != Some(name));
        self
    }

    /// With this pair behind all others, whatever they are.
    pub(crate) fn and(mut self, name: Value, value: Value) -> Self {
        self.0.push((name, value));
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        coset::cbor::ser::into_writer(&Value::Map(self.0), &mut bytes).unwrap();
        bytes
    }
}
