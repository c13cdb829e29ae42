//! What a pattern says: its segments, the names of its parameters, and whether it can be told from another pattern.

use super::RouteError;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<[u8]>),
    Affixed {
        prefix: Box<[u8]>,
        suffix: Box<[u8]>,
    },
    Parameter,
    Rest,
}

/// What a segment has between a prefix and a suffix, if that is not empty.
pub(super) fn between<'p>(segment: &'p [u8], prefix: &[u8], suffix: &[u8]) -> Option<&'p [u8]> {
    segment
        .strip_prefix(prefix)?
        .strip_suffix(suffix)
        .filter(|value| !value.is_empty())
}

/// The path of a pattern without parameters.
pub(super) fn literal_path(segments: &[Segment]) -> Option<Box<[u8]>> {
    let mut path = Vec::new();
    for segment in segments {
        let Segment::Literal(text) = segment else {
            return None;
        };
        path.push(b'/');
        path.extend_from_slice(text);
    }
    Some(path.into())
}

/// The pattern with or without a slash at its end. `/`, and patterns that end with a rest or with `//`, have none.
pub(super) fn other_spelling_of(segments: &[Segment]) -> Option<Vec<Segment>> {
    let is_empty = |segment: &Segment| matches!(segment, Segment::Literal(text) if text.is_empty());
    match segments {
        [] | [.., Segment::Rest] => None,
        [last] if is_empty(last) => None,
        [rest @ .., last] if is_empty(last) => match rest {
            [.., end] if is_empty(end) => None,
            _ => Some(rest.to_vec()),
        },
        _ => {
            let slash = Segment::Literal(Box::default());
            Some(segments.iter().cloned().chain([slash]).collect())
        }
    }
}

/// Whether two patterns can match the same path while neither is more specific: the first segment they differ in has
/// text on different sides of the parameter, as in `/a<x>` and `/<x>b`.
pub(super) fn is_ambiguous(left: &[Segment], right: &[Segment]) -> bool {
    let Some((
        Segment::Affixed { prefix, suffix },
        Segment::Affixed {
            prefix: p,
            suffix: s,
        },
    )) = left.iter().zip(right).find(|(left, right)| left != right)
    else {
        return false;
    };
    let more = prefix.len() >= p.len() && suffix.len() >= s.len();
    let less = prefix.len() <= p.len() && suffix.len() <= s.len();
    !more && !less && overlap(left, right)
}

/// Whether some path matches both patterns.
fn overlap(left: &[Segment], right: &[Segment]) -> bool {
    for (left, right) in left.iter().zip(right) {
        let both = match (left, right) {
            (Segment::Rest, _) | (_, Segment::Rest) => return true,
            (Segment::Literal(left), Segment::Literal(right)) => left == right,
            (Segment::Literal(text), Segment::Parameter)
            | (Segment::Parameter, Segment::Literal(text)) => !text.is_empty(),
            (Segment::Literal(text), Segment::Affixed { prefix, suffix })
            | (Segment::Affixed { prefix, suffix }, Segment::Literal(text)) => {
                between(text, prefix, suffix).is_some()
            }
            (
                Segment::Affixed { prefix, suffix },
                Segment::Affixed {
                    prefix: p,
                    suffix: s,
                },
            ) => {
                (prefix.starts_with(p) || p.starts_with(prefix))
                    && (suffix.ends_with(s) || s.ends_with(suffix))
            }
            (Segment::Parameter, Segment::Parameter | Segment::Affixed { .. })
            | (Segment::Affixed { .. }, Segment::Parameter) => true,
        };
        if !both {
            return false;
        }
    }
    left.len() == right.len()
}

/// Splits a pattern into its segments and the names of its parameters.
pub(super) fn parse(pattern: &str) -> Result<(Vec<Segment>, Vec<&str>), RouteError> {
    let bad = |what: &str, place: usize, expected: &str| {
        Err(RouteError::BadPattern(format!(
            "{what} at byte {place} of {pattern:?}: expected {expected}"
        )))
    };
    let Some(mut left) = pattern.strip_prefix('/') else {
        return bad("no '/'", 0, "a pattern that starts with one");
    };
    if let Some(place) = pattern.find(['?', '#']) {
        return bad(
            "'?' or '#'",
            place,
            "a path: the query is not part of a pattern",
        );
    }
    if let Some(place) = encoded_byte(pattern) {
        return bad(
            "a percent-encoded byte",
            place,
            "plain text, as in a decoded path",
        );
    }
    let mut segments = Vec::new();
    let mut names = Vec::new();
    loop {
        let (segment, tail) = match left.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (left, None),
        };
        let place = pattern.len() - left.len();
        segments.push(match segment.find(['<', '>']) {
            None => Segment::Literal(literal(segment)),
            Some(open) => {
                let (prefix, rest) = segment.split_at(open);
                let Some(rest) = rest.strip_prefix('<') else {
                    return bad(
                        "'>' without '<'",
                        place + open,
                        "a parameter such as <name>",
                    );
                };
                let Some((name, suffix)) = rest.split_once('>') else {
                    return bad(
                        "'<' without '>'",
                        place + open,
                        "a parameter such as <name>",
                    );
                };
                if let Some(next) = suffix.find(['<', '>']) {
                    let next = place + segment.len() - suffix.len() + next;
                    return bad(
                        "a second parameter in a segment",
                        next,
                        "at most one between two '/'",
                    );
                }
                let (name, is_rest) = name
                    .strip_prefix('*')
                    .map_or((name, false), |name| (name, true));
                if !is_name(name) {
                    return bad(
                        &format!("parameter name {name:?}"),
                        place + open + 1,
                        "a letter or '_', then letters, digits or '_'",
                    );
                }
                if names.contains(&name) {
                    return bad(
                        &format!("a second parameter {name:?}"),
                        place + open + 1,
                        "every name once",
                    );
                }
                names.push(name);
                match (is_rest, prefix.is_empty() && suffix.is_empty(), tail) {
                    (true, true, None) => Segment::Rest,
                    (true, ..) => {
                        return bad(
                            "<*…>",
                            place + open,
                            "it as the whole of the last segment, as in /files/<*path>",
                        );
                    }
                    (false, true, _) => Segment::Parameter,
                    (false, false, _) => Segment::Affixed {
                        prefix: literal(prefix),
                        suffix: literal(suffix),
                    },
                }
            }
        });
        match tail {
            Some(tail) => left = tail,
            None => return Ok((segments, names)),
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where a pattern has a `%` and two hexadecimal digits, which would never match.
fn encoded_byte(pattern: &str) -> Option<usize> {
    pattern.as_bytes().windows(3).position(|window| {
        window[0] == b'%' && window[1].is_ascii_hexdigit() && window[2].is_ascii_hexdigit()
    })
}

/// Text of a pattern as it is in a path, where a literal `%` stays encoded.
fn literal(text: &str) -> Box<[u8]> {
    text.replace('%', "%25").into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    #[test]
    fn names_the_parameters_in_order() {
        for (pattern, names) in [
            ("/", &[][..]),
            ("/<a>/b-<_c1>.d/<*Rest>", &["a", "_c1", "Rest"]),
        ] {
            assert_eq!(Router::parameter_names(pattern).unwrap(), names);
        }
    }

    #[test]
    fn malformed_patterns_say_what_is_wrong_where() {
        for (pattern, message) in [
            (
                "",
                "no '/' at byte 0 of \"\": expected a pattern that starts with one",
            ),
            ("a", "no '/' at byte 0"),
            ("/a?b", "'?' or '#' at byte 2"),
            ("/<a>#b", "'?' or '#' at byte 4"),
            ("/caf%C3%A9", "a percent-encoded byte at byte 4"),
            ("/a/<b", "'<' without '>' at byte 3"),
            ("/a/<b/c>", "'<' without '>' at byte 3"),
            ("/a/b>", "'>' without '<' at byte 4"),
            ("/<>", "parameter name \"\" at byte 2"),
            ("/<*>", "parameter name \"\" at byte 2"),
            ("/<1a>", "parameter name \"1a\" at byte 2"),
            ("/x/<int:id>", "parameter name \"int:id\" at byte 4"),
            ("/<é>", "parameter name \"é\" at byte 2"),
            ("/<a>-<b>", "a second parameter in a segment at byte 5"),
            ("/<a>>", "a second parameter in a segment at byte 4"),
            ("/<a>/<a>", "a second parameter \"a\" at byte 6"),
            ("/<a>/<*a>", "a second parameter \"a\" at byte 6"),
            ("/<*a>/b", "<*…> at byte 1"),
            ("/<*a>/", "<*…> at byte 1"),
            ("/b<*a>", "<*…> at byte 2"),
            ("/<*a>b", "<*…> at byte 1"),
        ] {
            let error = Router::new().add(pattern, &["GET"], 0).unwrap_err();
            assert!(
                matches!(&error, RouteError::BadPattern(text) if text.starts_with(message)),
                "{error}"
            );
            assert_eq!(Router::parameter_names(pattern), Err(error));
        }
    }

    #[test]
    fn patterns_of_equal_rank_that_meet_are_refused() {
        for (first, second, refused) in [
            ("/a<x>", "/<x>b", true),
            ("/a<x>/<y>", "/<x>b/c", true),
            ("/k/a<x>/<*rest>", "/k/<x>b/c/d", true),
            ("/a<x>/<*rest>", "/<x>b/<y>", true),
            ("/ab<x>c", "/a<x>bc", true),
            ("/a<x>/c", "/<x>b/d", false),
            ("/a<x>", "/<x>b/d", false),
            ("/a<x>/", "/<x>b/<y>", false),
            ("/a<x>/1<y>", "/<x>b/<y>1", true),
            ("/a<x>/1<y>", "/<x>b/2<y>", false),
            ("/a<x>/12", "/<x>b/1<y>", true),
            ("/a<x>/2", "/<x>b/1<y>", false),
            ("/a<x>c", "/b<x>", false),
            ("/a<x>", "/ab<x>", false),
            ("/a<x>", "/a<x>b", false),
            ("/<x>a", "/<x>b", false),
            ("/<x>", "/<*x>", false),
            ("/k/a<x>", "/l/<x>b", false),
            ("/<k>/a<x>", "/l/<x>b", false),
        ] {
            for (first, second) in [(first, second), (second, first)] {
                let mut router = Router::new();
                router.add(first, &["GET"], 7).unwrap();
                let expected = if refused {
                    Err(RouteError::Conflict { existing: 7 })
                } else {
                    Ok(())
                };
                assert_eq!(
                    router.add(second, &["POST"], 8),
                    expected,
                    "{first} and {second}"
                );
                let more = router.add(first, &["PUT"], 9);
                assert_eq!(more, Ok(()), "{first} again");
            }
        }
    }
}
