//! Chains with one fault each.

use super::*;
use crate::attestation::tests::maker::Link;
use rcgen::{
    BasicConstraints, CustomExtension, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

/// The refusal of a chain after this change of its links.
fn told(change: impl FnOnce(&mut Vec<Link>)) -> String {
    let mut links = Maker::links();
    change(&mut links);
    let maker = Maker::of(links);
    let document = maker.document(maker.enclave(KEY.public_der()));
    refusal(&document, &maker.roots())
}

fn fault(place: usize, fault: &str) -> String {
    format!("Certificate {place} of the attestation document {fault}.")
}

#[test]
fn attest_1_certificates_are_valid_now() {
    let expire = |link: &mut Link| link.params.not_after = date_time_ymd(2023, 2, 1);
    let delay = |link: &mut Link| link.params.not_before = date_time_ymd(2023, 12, 1);
    for place in 0..4 {
        let expired = told(|links| expire(&mut links[place]));
        assert_eq!(expired, fault(place, "has expired"));
        let early = told(|links| delay(&mut links[place]));
        assert_eq!(early, fault(place, "is not valid yet"));
    }
}

#[test]
fn attest_1_authorities_sign_certificates_and_modules_sign_documents() {
    let limited = |count| IsCa::Ca(BasicConstraints::Constrained(count));
    for place in 0..3 {
        for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
            let no_authority = told(|links| links[place].params.is_ca = is_ca);
            assert_eq!(no_authority, fault(place, "is not an authority"));
        }
        for usages in [vec![], vec![KeyUsagePurpose::DigitalSignature]] {
            let unable = told(|links| links[place].params.key_usages = usages);
            assert_eq!(unable, fault(place, "may not sign certificates"));
        }
        let below = u8::try_from(2 - place).unwrap();
        let allowed = told(|links| links[place].params.is_ca = limited(below));
        assert_eq!(allowed, "taken");
        if let Some(fewer) = below.checked_sub(1) {
            let refused = told(|links| links[place].params.is_ca = limited(fewer));
            let many = "has more authorities below it than it allows";
            assert_eq!(refused, fault(place, many));
        }
    }
    let authority = told(|links| {
        links[3].params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_eq!(authority, fault(3, "is an authority, and signs a document"));
    for usages in [vec![], vec![KeyUsagePurpose::KeyAgreement]] {
        let unable = told(|links| links[3].params.key_usages = usages);
        assert_eq!(unable, fault(3, "may not sign documents"));
    }
    let silent = told(|links| links[3].params.is_ca = IsCa::NoCa);
    assert_eq!(silent, "taken");
}

#[test]
fn attest_1_keys_are_on_p_384() {
    let p256 = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    // The root signs itself, so its own signature is of the other kind too.
    let root = told(|links| links[0].key = p256());
    assert_eq!(root, fault(0, "is not signed by ECDSA with SHA-384"));
    let middle = told(|links| links[2].key = p256());
    assert_eq!(middle, fault(2, "does not have a key on P-384"));
    let below = fault(3, "is not signed by ECDSA with SHA-384");
    let maker = {
        let mut links = Maker::links();
        links[2].key = p256();
        Maker::of(links)
    };
    // With the authority's certificate exchanged for a sound one, its signature is seen.
    let mut sound = Maker::of(Maker::links());
    sound.certificate.clone_from(&maker.certificate);
    let document = sound.document(sound.enclave(KEY.public_der()));
    assert_eq!(refusal(&document, &sound.roots()), below);
}

#[test]
fn attest_1_extensions_that_are_not_understood_are_refused() {
    for place in 0..4 {
        let unknown = |critical| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            extension.set_criticality(critical);
            told(|links| links[place].params.custom_extensions.push(extension))
        };
        let critical = "has a critical extension that is not known";
        assert_eq!(unknown(true), fault(place, critical));
        assert_eq!(unknown(false), "taken");
    }
    let twice = told(|links| {
        let extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        let extensions = &mut links[1].params.custom_extensions;
        extensions.push(extension.clone());
        extensions.push(extension);
    });
    assert_eq!(twice, fault(1, "has an extension twice"));
    let named = told(|links| {
        links[1].params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    assert_eq!(named, fault(1, "has constraints on names"));
    for (oid, broken) in [
        ([2, 5, 29, 19], "has broken basic constraints"),
        ([2, 5, 29, 15], "has a broken key usage"),
    ] {
        let told = told(|links| {
            links[3].params.is_ca = IsCa::NoCa;
            links[3].params.key_usages.clear();
            let extension = CustomExtension::from_oid_content(&oid, vec![5, 0]);
            links[3].params.custom_extensions.push(extension);
        });
        assert_eq!(told, fault(3, broken));
    }
}

#[test]
fn attest_1_each_certificate_is_of_the_one_before_it() {
    let of = |change: &dyn Fn(&mut Maker)| {
        let mut maker = Maker::new();
        change(&mut maker);
        let document = maker.document(maker.enclave(KEY.public_der()));
        refusal(&document, &maker.roots())
    };
    let not_issued = "is not of the authority before it";
    let left_out = of(&|maker| drop(maker.bundle.remove(1)));
    assert_eq!(left_out, fault(1, not_issued));
    let exchanged = of(&|maker| maker.bundle.swap(1, 2));
    assert_eq!(exchanged, fault(1, not_issued));
    let repeated = of(&|maker| {
        let root = maker.bundle[0].clone();
        maker.bundle.push(root);
    });
    assert_eq!(repeated, fault(3, not_issued));
    // The names are right, and the key is not.
    let forged = of(&|maker| maker.bundle[2].clone_from(&Maker::new().bundle[2]));
    assert_eq!(forged, fault(2, "is not signed by the authority before it"));
    let root_alone = of(&|maker| maker.bundle.truncate(1));
    assert_eq!(root_alone, fault(1, not_issued));
    for broken in [b"x".to_vec(), vec![0x30; 500]] {
        let told = of(&|maker| maker.certificate.clone_from(&broken));
        assert_eq!(told, fault(3, "is not an X.509 certificate in DER"));
    }
    let behind = of(&|maker| maker.certificate.push(0));
    assert_eq!(behind, fault(3, "is not an X.509 certificate in DER"));
}
