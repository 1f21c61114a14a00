//! What is asked of a daemon, and what is made of its answers.

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::endpoint::Endpoint;

fn remote(pairs: ContextPairs, length: DataKeyLength) -> Remote {
    Remote {
        client: Client {
            endpoint: Endpoint::Unix("/absent".into()),
            credentials: None,
            authorities: None,
            clock: Clock::manual(Timestamp(0)),
        },
        key: "alias/a b".to_owned(),
        length,
        pairs,
    }
}

fn pairs() -> ContextPairs {
    ContextPairs {
        columns: vec!["tenant".to_owned(), "container id".to_owned()],
        constants: vec![("purpose".to_owned(), "Zoë's=1&2".to_owned())],
    }
}

#[test]
fn the_query_is_encoded_as_signatures_want_it() {
    let query = remote(pairs(), DataKeyLength::AES_256).query();
    let expected = "key=alias%2Fa%20b&spec=AES_256&context=tenant%2Ccontainer%20id\
                    &constant=purpose%3DZo%C3%AB%27s%3D1%262";
    assert_eq!(query, expected);
    let length = DataKeyLength::new(7).unwrap();
    assert!(remote(pairs(), length).query().contains("&bytes=7&"));
}

#[test]
fn a_call_has_as_many_rows_as_fit() {
    let long = "x".repeat(CALL_BYTES_MAX / 3);
    let column: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 7]));
    let columns = [Texts::of(&column).unwrap()];
    assert_eq!(next_call(&columns, 0, 7), 0..2);
    assert_eq!(next_call(&columns, 6, 7), 6..7);
    // One that is too long by itself still goes: the daemon says why not.
    let huge: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(2 * CALL_BYTES_MAX)]));
    assert_eq!(next_call(&[Texts::of(&huge).unwrap()], 0, 1), 0..1);
    let short: ArrayRef = Arc::new(StringArray::from(vec!["x"; CALL_ROWS_MAX + 1]));
    assert_eq!(
        next_call(&[Texts::of(&short).unwrap()], 0, CALL_ROWS_MAX + 1),
        0..CALL_ROWS_MAX
    );
}

#[test]
fn a_refusal_names_its_row_among_those_that_were_to_be_bound() {
    let refused = |message: &str| SourceError::Refused {
        code: "AccessDeniedException".to_owned(),
        message: message.to_owned(),
    };
    match at_row(8192, refused("Row 41: no: not you")) {
        BindError::Row { at, code, message } => {
            assert_eq!((at, code.as_str()), (8233, "AccessDeniedException"));
            assert_eq!(message, "no: not you");
        }
        other => panic!("{other:?}"),
    }
    for message in ["After 0 rows: no", "Row x: no", "Row 1", ""] {
        let error = at_row(0, refused(message));
        assert!(matches!(error, BindError::Source(_)), "{message}");
    }
}
