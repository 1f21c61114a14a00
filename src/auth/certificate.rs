//! From a TLS client certificate to a principal.
//!
//! A certificate has one name here. If it has a SPIFFE id, the name is that id (SPIFFE X.509-SVID,
//! section 2: exactly one URI). Otherwise the name is the whole subject, written as in RFC 4514.
//! `x509-cert` parses the certificate, and the caller has verified it.

use crate::clock::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};
use x509_cert::name::Name;

/// The prefix of SPIFFE ids (SPIFFE-ID, section 2).
const SPIFFE: &str = "spiffe://";
/// `id-at-commonName` (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// The most bytes of a SPIFFE id (SPIFFE-ID, section 2.3).
const SPIFFE_BYTES_MAX: usize = 2048;

/// An exact map from the names of client certificates to the ARNs of principals. It has no default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientMap {
    /// From a SPIFFE id or a subject to an ARN.
    pub names: BTreeMap<String, String>,
}

/// The client of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its SPIFFE id or its subject.
    pub name: String,
    /// The common name in its subject, if it has one and no more.
    pub common_name: Option<String>,
    /// When the certificate expires.
    pub not_after: Timestamp,
}

impl ClientMap {
    /// The ARN of the client's principal.
    #[must_use]
    pub fn principal(&self, client: &Client) -> Option<&str> {
        self.names.get(&client.name).map(String::as_str)
    }
}

impl Client {
    /// Reads a certificate in DER. `None` when it has no name, or more than one.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let signed = Certificate::from_der(der).ok()?;
        let certificate = signed.tbs_certificate();
        let alternatives = certificate
            .get_extension::<SubjectAltName>()
            .ok()?
            .map(|(_critical, names)| names.0);
        let uris: Vec<&str> = alternatives
            .iter()
            .flatten()
            .filter_map(|name| match name {
                GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
                _ => None,
            })
            .collect();
        // In any spelling: a name that claims to be a SPIFFE id is never replaced by the subject.
        let spiffe = |uri: &&str| {
            let scheme = uri.get(..SPIFFE.len());
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SPIFFE))
        };
        let name = match uris.as_slice() {
            [id] if spiffe(id) => (*id).to_owned(),
            uris if uris.iter().any(spiffe) => return None,
            _ => certificate.subject().to_string(),
        };
        let not_after = certificate.validity().not_after.to_unix_duration();
        (!name.is_empty()).then_some(Self {
            name,
            common_name: common_name(certificate.subject()),
            not_after: timestamp(not_after),
        })
    }
}

/// The one common name of a subject. Of several none counts: which of them
/// a check looks at must not be a matter of taste.
fn common_name(subject: &Name) -> Option<String> {
    let mut named = subject.iter().filter(|one| one.oid == COMMON_NAME);
    let (name, more) = (named.next()?, named.next());
    if more.is_some() {
        return None;
    }
    let name: DirectoryString = name.value.decode_as().ok()?;
    Some(name.value().into_owned())
}

/// The common name of a certificate in DER, if it has one and no more.
#[must_use]
pub fn common_name_of(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    common_name(certificate.tbs_certificate().subject())
}

/// When a certificate in DER expires; `None` when the bytes are not a certificate.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    let certificate = Certificate::from_der(der).ok()?;
    let validity = certificate.tbs_certificate().validity();
    Some(timestamp(validity.not_after.to_unix_duration()))
}

fn timestamp(since_epoch: Duration) -> Timestamp {
    Timestamp(0).after(since_epoch)
}

/// Checks a name for a map: it must be a SPIFFE id, or a subject in the one form that is compared.
///
/// # Errors
/// The allowed forms, or the subject in its right form.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with(SPIFFE) {
        return if is_spiffe_id(name) {
            Ok(())
        } else {
            Err("allowed: a SPIFFE id, spiffe://trust-domain/path".to_owned())
        };
    }
    match name.parse::<Name>() {
        Ok(subject) if !subject.is_empty() => {
            let text = subject.to_string();
            if text == name {
                Ok(())
            } else {
                Err(format!("write it as subjects are compared: \"{text}\""))
            }
        }
        _ => Err(
            "allowed: a SPIFFE id (spiffe://…), or a whole subject as RFC 4514 writes it (CN=…,O=…)"
                .to_owned(),
        ),
    }
}

/// SPIFFE-ID, sections 2.1 to 2.3.
fn is_spiffe_id(text: &str) -> bool {
    let Some(id) = text.strip_prefix(SPIFFE) else {
        return false;
    };
    let mut segments = id.split('/');
    let trust_domain = segments.next().unwrap_or_default();
    let of = |text: &str, uppercase: bool| {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'.' | b'-' | b'_')
                || uppercase && byte.is_ascii_uppercase()
        };
        !text.is_empty() && text.bytes().all(allowed)
    };
    text.len() <= SPIFFE_BYTES_MAX
        && of(trust_domain, false)
        && segments.all(|segment| of(segment, true) && !matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    fn certificate(subject: &[(DnType, &str)], uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(["host.example".to_owned()]).unwrap();
        let mut name = DistinguishedName::new();
        for (kind, value) in subject {
            name.push(kind.clone(), DnValue::Utf8String((*value).to_owned()));
        }
        params.distinguished_name = name;
        let uris = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn name(subject: &[(DnType, &str)], uris: &[&str]) -> Option<String> {
        Client::of_certificate(&certificate(subject, uris)).map(|client| client.name)
    }

    #[test]
    fn a_spiffe_id_is_the_whole_name_and_alone() {
        let subject = [(DnType::CommonName, "admin")];
        let (a, b) = ("spiffe://example.org/a", "spiffe://example.org/b");
        assert_eq!(name(&subject, &[a]).as_deref(), Some(a));
        assert_eq!(name(&[], &[a]).as_deref(), Some(a));
        for uris in [
            &[a, b][..],
            &[a, "https://example.org/"],
            &["https://x/", a],
        ] {
            assert_eq!(name(&subject, uris), None, "{uris:?}");
        }
        // It is compared as it is, and so equals no name of a map; the subject is not used either.
        let shouted = "SPIFFE://example.org/a";
        assert_eq!(name(&subject, &[shouted]).as_deref(), Some(shouted));
        assert!(check_name(shouted).is_err());
        // A URI that is not a SPIFFE id is ignored.
        let other = name(&subject, &["https://example.org/"]);
        assert_eq!(other.as_deref(), Some("CN=admin"));
    }

    #[test]
    fn a_common_name_is_the_only_one() {
        let of = |subject: &[(DnType, &str)]| {
            let der = certificate(subject, &[]);
            common_name_of(&der)
        };
        let (organization, name) = (DnType::OrganizationName, DnType::CommonName);
        let cks = "cks.kms.eu-central-1.amazonaws.com";
        let subject = [(organization.clone(), "x"), (name.clone(), cks)];
        assert_eq!(of(&subject).as_deref(), Some(cks));
        assert_eq!(of(&[(organization, cks)]), None);
        assert_eq!(common_name_of(b"x"), None);
    }

    #[test]
    fn a_subject_is_written_whole_most_specific_first_and_escaped() {
        let (country, organization) = (DnType::CountryName, DnType::OrganizationName);
        let subject = [
            (country, "DE"),
            (organization.clone(), "Example, Inc."),
            (DnType::CommonName, "provisioner"),
        ];
        let text = name(&subject, &[]).unwrap();
        assert_eq!(text, r"CN=provisioner,O=Example\, Inc.,C=DE");
        assert_eq!(check_name(&text), Ok(()));
        // A value that looks like two attributes is one value.
        let forged = name(&[(organization, "x,CN=admin")], &[]).unwrap();
        assert_eq!(forged, r"O=x\,CN=admin");
        assert_eq!(name(&[], &[]), None);
    }

    #[test]
    fn a_client_ends_with_its_certificate() {
        let der = certificate(&[(DnType::CommonName, "a")], &[]);
        // 2030-01-02T00:00:00Z.
        let end = Timestamp(1_893_542_400_000_000);
        assert_eq!(Client::of_certificate(&der).unwrap().not_after, end);
        assert_eq!(not_after(&der), Some(end));
        for der in [&[][..], b"nonsense", &der[..der.len() - 1]] {
            assert_eq!(Client::of_certificate(der), None);
            assert_eq!(not_after(der), None);
        }
    }

    #[test]
    fn the_map_is_exact() {
        let names = [("CN=a", "arn-a"), ("spiffe://example.org/b", "arn-b")];
        let names = names.map(|(name, arn)| (name.to_owned(), arn.to_owned()));
        let map = ClientMap {
            names: names.into(),
        };
        let principal = |name: &str| {
            let (name, not_after) = (name.to_owned(), Timestamp(0));
            map.principal(&Client {
                name,
                common_name: None,
                not_after,
            })
            .map(str::to_owned)
        };
        assert_eq!(principal("CN=a").as_deref(), Some("arn-a"));
        let spiffe = principal("spiffe://example.org/b");
        assert_eq!(spiffe.as_deref(), Some("arn-b"));
        for stranger in [
            "CN=A",
            "CN=a,O=x",
            "O=x,CN=a",
            "a",
            "spiffe://example.org/b/",
        ] {
            assert_eq!(principal(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn names_that_no_certificate_has_are_refused_in_a_map() {
        for sound in [
            "CN=a",
            "CN=a,O=b,C=DE",
            r"CN=a\+b",
            "CN=größe",
            "spiffe://example.org",
            "spiffe://example.org/ns/Prod/sa/x_y-z.1",
        ] {
            assert_eq!(check_name(sound), Ok(()), "{sound}");
        }
        for wrong in [
            "",
            "a",
            "CN",
            "=a",
            "NoSuchType=a",
            "spiffe://",
            "spiffe:///a",
            "spiffe://Example.org/a",
            "spiffe://example.org/",
            "spiffe://example.org//a",
            "spiffe://example.org/../a",
            "spiffe://example.org/a?b",
            "spiffe://example.org:443/a",
            &format!("spiffe://example.org/{}", "a".repeat(2048)),
        ] {
            let refused = check_name(wrong).unwrap_err();
            assert!(refused.starts_with("allowed: "), "{wrong}: {refused}");
        }
        for (loose, right) in [
            ("cn=a", "CN=a"),
            ("commonName=a", "CN=a"),
            ("2.5.4.3=a", "CN=a"),
        ] {
            let expected = format!("write it as subjects are compared: \"{right}\"");
            assert_eq!(check_name(loose), Err(expected), "{loose}");
        }
    }
}
