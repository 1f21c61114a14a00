use super::*;
use crate::transport::request_body::too_large;

fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn whatever_smells_of_a_signature_is_judged_by_it() {
    for head in [
        head("/", &[("authorization", "")]),
        head("/", &[("Authorization", "Bearer x")]),
        head("/", &[("x-amz-security-token", "t")]),
        head("/?X-Amz-Signature=0", &[]),
        head("/?x-amz-signature=0", &[]),
        head("/v1/data-keys/bind?key=a&X-AMZ-Credential=b", &[]),
        head("/?%58-Amz-Signature=0", &[]),
        head("/?a&x%2damz%2Ddate", &[]),
    ] {
        assert!(claims_a_signature(&head), "{head:?}");
    }
    assert!(!claims_a_signature(&head("/", &[("x-amz-target", "x")])));
    // In a value it is ordinary text.
    assert!(!claims_a_signature(&head("/?pair=a=X-Amz-Date", &[])));
}

#[test]
fn refusals_have_the_shape_that_sdks_read() {
    let id = RequestId::draw(&crate::crypto::entropy::Entropy::os());
    let shape = |refusal| {
        let (response, outcome) = refused(id, Subject::None, refusal);
        let headers = response.headers();
        let kind = headers.get(ERROR_TYPE).cloned();
        let media_type = headers[CONTENT_TYPE].to_str().unwrap().to_owned();
        (
            response.status().as_u16(),
            kind,
            media_type,
            outcome.label(),
        )
    };
    let json = |status, code: &'static str| {
        let kind = Some(HeaderValue::from_static(code));
        (status, kind, "application/x-amz-json-1.1".to_owned(), code)
    };
    let plain = |status, code| (status, None, "text/plain; charset=utf-8".to_owned(), code);
    assert_eq!(
        shape(too_large().into()),
        json(413, "RequestEntityTooLarge")
    );
    assert_eq!(
        shape(bulk::not_acceptable()),
        json(406, "UnsupportedOperationException")
    );
    assert_eq!(shape(not_operator()), json(403, "AccessDeniedException"));
    let failed = ApiError::internal("disk full").into();
    assert_eq!(shape(failed), json(500, "KMSInternalException"));
    assert_eq!(shape(Outcome::NotFound.into()), plain(404, "NotFound"));
    assert_eq!(
        shape(Outcome::MethodNotAllowed.into()),
        plain(405, "MethodNotAllowed")
    );
}
