use super::*;

fn found<'t>(text: &'t str, segment: &[Part<'_>]) -> Option<&'t str> {
    let steps = Steps::unbounded();
    find(text, segment.iter().copied(), Case::Sensitive, &steps)
}

#[test]
fn a_segment_is_found_where_it_first_ends() {
    use Part::{AnyOne, Text};
    for (text, segment, behind) in [
        ("abcabc", &[Text("bc")][..], Some("abc")),
        ("abcabc", &[AnyOne, Text("c")], Some("abc")),
        ("é語a", &[AnyOne], Some("語a")),
        ("é語a", &[AnyOne, AnyOne], Some("a")),
        ("é語a", &[AnyOne, Text("a")], Some("")),
        ("é語a", &[Text("語"), AnyOne], Some("")),
        ("é語a", &[AnyOne, AnyOne, AnyOne, AnyOne], None),
        ("é語a", &[Text("a"), AnyOne], None),
        ("abc", &[], Some("abc")),
        ("", &[AnyOne], None),
        // A variable's value beside a literal, or nothing.
        ("xabcy", &[Text("a"), Text(""), Text("bc")], Some("y")),
        ("xaby", &[Text("a"), Text("bc")], None),
    ] {
        assert_eq!(found(text, segment), behind, "{text} {segment:?}");
    }
}

#[test]
fn a_segment_of_several_blocks_is_found_wherever_it_begins() {
    use Part::{AnyOne, Text};
    for length in [62, 63, 64, 65, 127, 128, 129, 300] {
        let literal = "é".repeat(length) + "x";
        let segment = [Text(&literal), AnyOne, Text("z")];
        for before in [0, 1, 63, 64, 65] {
            let text = "é".repeat(before) + &literal + "語zrest";
            assert_eq!(found(&text, &segment), Some("rest"), "{length} {before}");
            let text = "é".repeat(before) + &literal + "語語zrest";
            assert_eq!(found(&text, &segment), None, "{length} {before}");
        }
    }
    let any = [AnyOne; 200];
    assert_eq!(found(&"語".repeat(201), &any), Some("語"));
    assert_eq!(found(&"語".repeat(199), &any), None);
}
