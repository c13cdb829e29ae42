//! Invariants of `Router`, for any patterns, methods and paths:
//!
//! - it never panics, whatever it is given, and a pattern it refuses changes nothing;
//! - what it finds is right: the parameters, put into the pattern, give the path;
//! - a path that is a literal pattern is found by that pattern;
//! - with hosts and strategies too, and a redirect leads to a path on the same server that has a route.
//!
//! `cargo fuzz run router`

#![no_main]

use libfuzzer_sys::fuzz_target;
use vibora::router::{Host, Lookup, Pattern, Router, Scope, Strategy, other_spelling};

/// The path that a pattern with these parameters stands for. A pattern is plain text, in a routed path `%` is `%25`.
fn fill(pattern: &str, parameters: &[&[u8]]) -> Vec<u8> {
    let mut filled = Vec::new();
    let pattern = pattern.replace('%', "%25");
    let mut rest = &pattern[..];
    for parameter in parameters {
        let (before, after) = rest.split_once('<').expect("a parameter for each value");
        let (_, after) = after.split_once('>').expect("parameters end");
        filled.extend_from_slice(before.as_bytes());
        filled.extend_from_slice(parameter);
        rest = after;
    }
    filled.extend_from_slice(rest.as_bytes());
    filled
}

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|b| *b == b'\n');
    let Some(path) = lines.next() else { return };
    let mut router = Router::new();
    let mut patterns: Vec<&str> = Vec::new();
    for line in lines.take(24) {
        let Ok(pattern) = std::str::from_utf8(line) else {
            continue;
        };
        let method = if pattern.len() % 3 == 0 {
            "POST"
        } else {
            "GET"
        };
        if router.add(pattern, &[method], patterns.len()).is_ok() {
            patterns.push(pattern);
        }
    }
    for path in std::iter::once(path).chain(patterns.iter().map(|pattern| pattern.as_bytes())) {
        for method in [&b"GET"[..], b"HEAD", b"POST", b"OPTIONS", b"\xff"] {
            match router.lookup(method, path) {
                Lookup::Found { route, parameters } => {
                    let pattern = patterns[route];
                    assert_eq!(fill(pattern, &parameters), path, "{pattern:?}");
                }
                Lookup::Options { allow } | Lookup::MethodNotAllowed { allow } => {
                    assert!(!allow.is_empty());
                }
                Lookup::NotFound => {
                    let literal = patterns.iter().any(|pattern| pattern.as_bytes() == path);
                    assert!(
                        !literal || path.contains(&b'<') || path.contains(&b'%'),
                        "a literal path is found"
                    );
                }
                Lookup::Matched { .. } | Lookup::Redirect { .. } => unreachable!(),
            }
        }
    }
    scoped(data);
});

/// The same lines: the first is host and path, the others are host and pattern.
fn scoped(data: &[u8]) {
    let mut lines = data
        .split(|b| *b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok());
    let Some((host, path)) = lines
        .next()
        .map(|line| line.split_at(line.find('/').unwrap_or(line.len())))
    else {
        return;
    };
    let mut router = Router::new();
    let mut patterns: Vec<(&str, Strategy)> = Vec::new();
    for line in lines.take(24) {
        let (name, pattern) = line.split_at(line.find('/').unwrap_or(line.len()));
        let strategy = match pattern.len() % 3 {
            0 => Strategy::Strict,
            1 => Strategy::Redirect,
            _ => Strategy::Clone,
        };
        let hosts = [Host::Name(name)];
        let scope = Scope {
            pattern: Pattern::Text(pattern),
            methods: &["GET"],
            hosts: if name.is_empty() { &[] } else { &hosts },
            strategy,
        };
        if router.add_scoped(&scope, patterns.len()).is_ok() {
            patterns.push((pattern, strategy));
        }
    }
    let ask =
        |path: &[u8]| match router.lookup_for(b"GET", host.as_bytes(), path, &mut |_, _| false) {
            Lookup::Found { route, parameters } => {
                let (pattern, strategy) = patterns[route];
                let mut filled = fill(pattern, &parameters);
                if filled != path {
                    assert_eq!(strategy, Strategy::Clone);
                    if filled.pop() != Some(b'/') {
                        filled = [&fill(pattern, &parameters)[..], b"/"].concat();
                    }
                }
                assert_eq!(filled, path, "{pattern:?}");
                None
            }
            Lookup::Redirect { route } => Some(route),
            Lookup::NotFound => None,
            Lookup::Options { .. } | Lookup::MethodNotAllowed { .. } | Lookup::Matched { .. } => {
                unreachable!("every route has GET, none has an expression")
            }
        };
    if let Some(route) = ask(path.as_bytes()) {
        assert_eq!(patterns[route].1, Strategy::Redirect);
        let location = other_spelling(path.as_bytes(), None);
        assert!(
            location.starts_with('/') && !location.starts_with("//") && !location.contains('\\')
        );
    }
}
