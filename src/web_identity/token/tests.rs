//! Tokens of the oracle, and tokens with one fault each.

use super::*;
use crate::web_identity::key_set::KeySet;
use crate::web_identity::tests::{NOW, Signer, URL, at, claims, encoded, set_of};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// What comes of a token that `signer` is to have signed.
fn outcome(token: &str, signer: &Signer) -> Result<Claims, TokenError> {
    let token = Token::parse(token)?;
    let set = KeySet::parse(&set_of(&[signer])).unwrap();
    let key = set.find(token.key_id(), token.algorithm());
    let key = key.map_err(|_| TokenError::UnknownKey)?;
    token.verify(&key)?.claims(at(NOW))
}

fn refusal(token: &str, signer: &Signer) -> String {
    outcome(token, signer)
        .err()
        .map_or_else(|| "taken".to_owned(), |error| error.to_string())
}

const NOT_A_TOKEN: &str =
    "The web identity token could not be validated: it is not a JSON Web Token with a signature.";
const ALGORITHM: &str = "The web identity token could not be validated: it must be signed with RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA.";
const SIGNATURE: &str =
    "The web identity token could not be validated: its signature is not of its issuer.";

#[test]
fn web_2_tokens_of_the_oracle_are_taken_and_changed_ones_are_not() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(*algorithm, "a");
        let claims = claims();
        // Only ES512 is unknown to it.
        let token = signer.token_of_oracle(&claims);
        assert_eq!(token.is_none(), *algorithm == Algorithm::ES512);
        let token = token.unwrap_or_else(|| signer.token(&claims));
        let parsed = Token::parse(&token).unwrap_or_else(|error| panic!("{error}"));
        let peeked = (parsed.issuer(), parsed.key_id(), parsed.algorithm());
        assert_eq!(peeked, (URL, "a", *algorithm));
        assert_eq!(refusal(&token, &signer), "taken");
        // A key of the same kind that is not the signer.
        let other = Signer::new(*algorithm, "a");
        assert_eq!(refusal(&token, &other), SIGNATURE);
        let mut bytes = token.clone().into_bytes();
        for at in (0..bytes.len()).step_by(7) {
            let before = bytes[at];
            bytes[at] = if before == b'A' { b'B' } else { b'A' };
            let changed = str::from_utf8(&bytes).unwrap();
            // The last character of a part has bits that mean nothing, and must be zero.
            assert_ne!(refusal(changed, &signer), "taken", "{algorithm:?} {at}");
            bytes[at] = before;
        }
    }
}

#[test]
fn white_space_at_the_end_is_left_out_and_nowhere_else() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let token = signer.token(&claims());
    assert_eq!(refusal(&format!("{token}\r\n "), &signer), "taken");
    for odd in [
        format!(" {token}"),
        format!("{token}="),
        token.replace('.', " . "),
    ] {
        assert_eq!(refusal(&odd, &signer), NOT_A_TOKEN);
    }
}

#[test]
fn web_2_a_token_does_not_choose_how_it_is_verified() {
    let signer = Signer::new(Algorithm::RS256, "a");
    let claims = claims().to_string();
    for alg in ["none", "None", "NONE", "", "HS256", "PS256", "ES256K"] {
        let header = json!({"alg": alg, "kid": "a"}).to_string();
        assert_eq!(refusal(&signer.sign(&header, &claims), &signer), ALGORITHM);
        let unsigned = format!("{}.{}.", encoded(&header), encoded(&claims));
        assert_eq!(refusal(&unsigned, &signer), ALGORITHM);
    }
    for header in [
        json!({"kid": "a"}),
        json!({"alg": 1, "kid": "a"}),
        json!({"alg": ["RS256"]}),
    ] {
        assert_eq!(
            refusal(&signer.sign(&header.to_string(), &claims), &signer),
            ALGORITHM
        );
    }
    // The public key as a shared secret, which every stranger has.
    let secret = signer.jwk["n"].as_str().unwrap().as_bytes();
    let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("a".to_owned());
    let key = EncodingKey::from_secret(secret).unwrap();
    let token = jsonwebtoken::encode(&header, &crate::web_identity::tests::claims(), &key).unwrap();
    assert_eq!(refusal(&token, &signer), ALGORITHM);
    // A key of another family, under the id of the issuer's.
    let ec = Signer::new(Algorithm::ES256, "a");
    let token = ec.token(&crate::web_identity::tests::claims());
    assert_eq!(refusal(&token, &signer), TokenError::UnknownKey.to_string());
    // A signature with another hash than the header says.
    let token = signer.sign(r#"{"alg":"RS512","kid":"a"}"#, &claims);
    assert_eq!(refusal(&token, &signer), SIGNATURE);
    // No signature at all under a name that is known.
    let token = format!(
        "{}.{}.",
        encoded(r#"{"alg":"RS256","kid":"a"}"#),
        encoded(&claims)
    );
    assert_eq!(refusal(&token, &signer), SIGNATURE);
}

#[test]
fn web_2_keys_that_come_with_a_token_are_not_looked_at() {
    let (signer, thief) = (
        Signer::new(Algorithm::ES256, "a"),
        Signer::new(Algorithm::ES256, "a"),
    );
    let claims = claims().to_string();
    for (name, value) in [
        ("jwk", thief.jwk.clone()),
        ("jku", json!("https://thief.example/keys")),
        ("x5u", json!("https://thief.example/chain")),
        ("x5c", json!(["AAAA"])),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "a"});
        header[name] = value;
        let header = header.to_string();
        assert_eq!(
            refusal(&thief.sign(&header, &claims), &signer),
            SIGNATURE,
            "{name}"
        );
        assert_eq!(
            refusal(&signer.sign(&header, &claims), &signer),
            "taken",
            "{name}"
        );
    }
}

#[test]
fn a_header_that_must_be_understood_is_refused() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let refused = "The web identity token could not be validated: its header has \"crit\".";
    for crit in [json!(["b64"]), json!([]), json!(null), json!("exp")] {
        let header = json!({"alg": "ES256", "kid": "a", "crit": crit, "b64": false});
        let token = signer.sign(&header.to_string(), &claims().to_string());
        assert_eq!(refusal(&token, &signer), refused);
    }
}

#[test]
fn a_member_that_is_there_twice_is_refused() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let claims = claims().to_string();
    let twice = claims.replacen('{', r#"{"sub":"admin","#, 1);
    let header = r#"{"alg":"ES256","kid":"a"}"#;
    assert_eq!(refusal(&signer.sign(header, &claims), &signer), "taken");
    assert_eq!(refusal(&signer.sign(header, &twice), &signer), NOT_A_TOKEN);
    for header in [
        r#"{"alg":"none","alg":"ES256","kid":"a"}"#,
        r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
        r#"{"alg":"ES256","kid":"a","al\u0067":"ES256"}"#,
    ] {
        assert_eq!(refusal(&signer.sign(header, &claims), &signer), NOT_A_TOKEN);
    }
}

#[test]
fn what_is_not_a_token_is_refused() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let token = signer.token(&claims());
    let parts: Vec<_> = token.split('.').collect();
    let length = "The web identity token could not be validated: it has 4 to 20000 characters.";
    for (text, expected) in [
        (String::new(), length),
        ("a.b".to_owned(), length),
        ("    ".to_owned(), length),
        ("x".repeat(Token::CHARACTERS_MAX + 1), length),
        ("x".repeat(Token::CHARACTERS_MAX), NOT_A_TOKEN),
        ("....".to_owned(), NOT_A_TOKEN),
        ("abcd".to_owned(), NOT_A_TOKEN),
        ("é.é.é".to_owned(), NOT_A_TOKEN),
        (format!("{}.{}", parts[0], parts[1]), NOT_A_TOKEN),
        (format!("{token}.{}", parts[2]), NOT_A_TOKEN),
        (format!("{}..{}", parts[0], parts[2]), NOT_A_TOKEN),
        (format!(".{}.{}", parts[1], parts[2]), NOT_A_TOKEN),
        (
            format!("{}.{}.{}", encoded("[]"), parts[1], parts[2]),
            NOT_A_TOKEN,
        ),
        (
            format!("{}.{}.{}", parts[0], encoded("1"), parts[2]),
            NOT_A_TOKEN,
        ),
        (
            format!("{}.{}.{}", parts[0], encoded(b"\xff"), parts[2]),
            NOT_A_TOKEN,
        ),
        (
            format!("{}.{}.{}", parts[0], encoded("{} {}"), parts[2]),
            NOT_A_TOKEN,
        ),
        // An encrypted token (RFC 7516).
        (format!("{}.a.b.c.d", parts[0]), NOT_A_TOKEN),
    ] {
        assert_eq!(refusal(&text, &signer), expected, "{text}");
    }
}

#[test]
fn a_token_without_an_issuer_or_a_key_id_is_nobodys() {
    let signer = Signer::new(Algorithm::ES256, "a");
    for iss in [json!(null), json!(["https://issuer.example"]), json!(1)] {
        let mut claims = claims();
        claims["iss"] = iss;
        assert_eq!(
            refusal(&signer.token(&claims), &signer),
            "Missing a required claim: iss"
        );
    }
    for header in [
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":""}"#,
        r#"{"alg":"ES256","kid":1}"#,
    ] {
        let token = signer.sign(header, &claims().to_string());
        assert_eq!(refusal(&token, &signer), TokenError::UnknownKey.to_string());
    }
}
