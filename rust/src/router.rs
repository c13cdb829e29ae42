//! From a method and a path to a route.
//!
//! A pattern is plain text with parameters: `/users/<id>` and `/img-<id>.png` match one segment or a part of it, never
//! empty, never over a `/`; `<*path>` at the end matches the rest, also an empty one.
//!
//! # Which pattern wins
//!
//! Segments are compared from the left: literal text before text with a parameter in it (the one with more text first)
//! before a parameter on its own before `<*rest>`. The order of registration does not matter. Two patterns that could
//! match the same path and are equal in that order are refused. A path whose best pattern lacks the method goes to the next
//! pattern that has it: `GET /users/me` does not hide `DELETE /users/<id>`. Only when none has it the answer is 405, and
//! `allow` lists the methods of all of them (RFC 9110 §10.2.1).
//!
//! Patterns without a parameter are found by a hash of the whole path, the others in a tree of segments. Both compare
//! bytes, so a path that is not UTF-8 matches like any other, and reaches the handler's parameter as it was sent.
//!
//! Not here: decoding ([`target`](crate::http::target)), `OPTIONS *`, trailing slashes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;

use smallvec::SmallVec;

use crate::http::grammar::is_token;

/// Why a route was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The same pattern, whatever its parameters are called, has a route for this method.
    Duplicate {
        /// The route that has it.
        existing: usize,
        /// The method.
        method: String,
    },
    /// Another pattern matches some of the same paths, and neither is more specific.
    Conflict {
        /// The route of the other pattern.
        existing: usize,
    },
    /// The pattern or a method is malformed: what, where, and what was expected.
    BadPattern(String),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { existing, method } => write!(
                f,
                "route {existing} already handles {method} for this pattern"
            ),
            Self::Conflict { existing } => write!(
                f,
                "the pattern of route {existing} matches some of the same paths and neither is more specific"
            ),
            Self::BadPattern(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for RouteError {}

/// The answer to a method and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<'r, 'p> {
    /// A route handles it. HEAD is handled by the route for GET when there is none of its own (RFC 9110 §9.3.2).
    Found {
        /// The route's id.
        route: usize,
        /// The path's parameters.
        parameters: Parameters<'p>,
    },
    /// OPTIONS for a path without a handler for it (RFC 9110 §9.3.7).
    Options {
        /// The value of the `allow` field.
        allow: &'r str,
    },
    /// The path is known, with other methods: 405 (RFC 9110 §15.5.6).
    MethodNotAllowed {
        /// The value of the `allow` field.
        allow: &'r str,
    },
    /// No pattern matches the path.
    NotFound,
}

/// The values of a pattern's parameters, in the pattern's order, with `%2F` and `%25` still encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters<'p>(SmallVec<[&'p [u8]; 4]>);

impl<'p> Deref for Parameters<'p> {
    type Target = [&'p [u8]];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// All routes of an application.
///
/// ```
/// use vibora::router::{Lookup, Router};
///
/// let mut router = Router::new();
/// router.add("/users/<id>", &["GET"], 7)?;
/// let Lookup::Found { route, parameters } = router.lookup(b"HEAD", b"/users/42") else {
///     panic!("not found");
/// };
/// assert_eq!((route, parameters[0]), (7, &b"42"[..]));
/// assert_eq!(
///     router.lookup(b"POST", b"/users/42"),
///     Lookup::MethodNotAllowed { allow: "GET, HEAD, OPTIONS" }
/// );
/// # Ok::<(), vibora::router::RouteError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Router {
    literals: HashMap<Box<[u8]>, Leaf, BuildHasherDefault<PathHasher>>,
    /// The longest path in `literals`: nothing longer is hashed.
    longest_literal: usize,
    /// The tree of the patterns with parameters; the first node stands after the path's leading `/`.
    nodes: Vec<Node>,
    /// The patterns that have text next to a parameter, the only ones that can be ambiguous.
    affixed: Vec<(Vec<Segment>, usize)>,
    methods: Vec<Box<str>>,
    /// The value of `allow` for each set of methods that patterns have, alone or together.
    allow: HashMap<Methods, Box<str>>,
}

/// A set of methods: bit `n` is the `n`th of [`Router::methods`].
type Methods = u64;

/// The first of [`Router::methods`], so that their numbers need no search.
const COMMON: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const GET: u8 = 0;
const HEAD: u8 = 1;

/// How many combinations of method sets have their `allow` ready. The nine common methods make at most 512.
const MAX_ALLOW: usize = 4096;

/// What a pattern leads to.
#[derive(Clone, Debug, Default)]
struct Leaf {
    /// Method numbers and routes.
    routes: SmallVec<[(u8, usize); 2]>,
    methods: Methods,
}

/// A place between two segments of patterns.
#[derive(Clone, Debug, Default)]
struct Node {
    /// In the order of their hashes.
    literals: Vec<Literal>,
    /// The most text first.
    affixes: Vec<Affix>,
    parameter: Option<usize>,
    /// `<*rest>` in this place.
    rest: Leaf,
    /// Patterns that end in this place.
    leaf: Leaf,
}

/// A segment of text, and the node after it.
#[derive(Clone, Debug)]
struct Literal {
    hash: u64,
    text: Box<[u8]>,
    child: usize,
}

/// Text on one or both sides of a parameter, and the node after it.
#[derive(Clone, Debug)]
struct Affix {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    child: usize,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<[u8]>),
    Affixed {
        prefix: Box<[u8]>,
        suffix: Box<[u8]>,
    },
    Parameter,
    Rest,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// Returns a router without routes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            literals: HashMap::default(),
            longest_literal: 0,
            nodes: vec![Node::default()],
            affixed: Vec::new(),
            methods: COMMON.map(Into::into).into(),
            allow: HashMap::new(),
        }
    }

    /// Adds a route for a pattern and some methods, which are case-sensitive (RFC 9110 §9.1).
    ///
    /// # Errors
    ///
    /// [`RouteError`]; the router is unchanged.
    pub fn add(&mut self, pattern: &str, methods: &[&str], route: usize) -> Result<(), RouteError> {
        let (segments, _) = parse(pattern)?;
        if methods.is_empty() {
            return Err(RouteError::BadPattern(format!(
                "no method for {pattern:?}: expected at least one"
            )));
        }
        let mut new = 0;
        for method in methods {
            if !is_token(method.as_bytes()) {
                return Err(RouteError::BadPattern(format!(
                    "method {method:?} for {pattern:?}: expected a token such as \"GET\""
                )));
            }
            new += usize::from(self.method_number(method.as_bytes()).is_none());
        }
        if self.methods.len() + new > Methods::BITS as usize {
            return Err(RouteError::BadPattern(format!(
                "methods for {pattern:?}: expected at most {} different ones in all routes",
                Methods::BITS
            )));
        }
        if let Some(leaf) = self.find(&segments) {
            for method in methods {
                let number = self.method_number(method.as_bytes());
                if let Some(existing) = number.and_then(|number| leaf.route(number)) {
                    return Err(RouteError::Duplicate {
                        existing,
                        method: (*method).to_owned(),
                    });
                }
            }
        }
        for (other, existing) in &self.affixed {
            if is_ambiguous(&segments, other) {
                return Err(RouteError::Conflict {
                    existing: *existing,
                });
            }
        }

        if segments
            .iter()
            .any(|segment| matches!(segment, Segment::Affixed { .. }))
        {
            self.affixed.push((segments.clone(), route));
        }
        let numbers: Vec<u8> = methods
            .iter()
            .map(|method| self.add_method(method))
            .collect();
        let leaf = self.insert(&segments);
        for number in numbers {
            if leaf.route(number).is_none() {
                leaf.routes.push((number, route));
            }
            leaf.methods |= 1 << number;
        }
        let methods = leaf.methods;
        self.prepare_allow(methods);
        Ok(())
    }

    /// The names of a pattern's parameters, in order.
    ///
    /// # Errors
    ///
    /// [`RouteError::BadPattern`].
    pub fn parameter_names(pattern: &str) -> Result<Vec<String>, RouteError> {
        let (_, names) = parse(pattern)?;
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// Finds the route for a method and a path, which is percent-decoded but for `%2F` and `%25`
    /// ([`decode_path`](crate::http::target::decode_path)).
    #[must_use]
    pub fn lookup<'r, 'p>(&'r self, method: &[u8], path: &'p [u8]) -> Lookup<'r, 'p> {
        let mut search = Search {
            nodes: &self.nodes,
            method: self.method_number(method),
            parameters: Parameters::default(),
            allowed: 0,
        };
        let mut found = None;
        if path.len() <= self.longest_literal {
            if let Some(leaf) = self.literals.get(path) {
                found = search.visit(leaf);
            }
        }
        if found.is_none() {
            if let [b'/', rest @ ..] = path {
                found = search.walk(0, rest);
            }
        }
        if let Some(route) = found {
            return Lookup::Found {
                route,
                parameters: search.parameters,
            };
        }
        if search.allowed == 0 {
            return Lookup::NotFound;
        }
        let allow = self.allow(search.allowed);
        if method == b"OPTIONS" {
            Lookup::Options { allow }
        } else {
            Lookup::MethodNotAllowed { allow }
        }
    }

    /// The leaf of exactly this pattern.
    fn find(&self, segments: &[Segment]) -> Option<&Leaf> {
        if let Some(path) = literal_path(segments) {
            return self.literals.get(&*path);
        }
        let mut node = &self.nodes[0];
        for segment in segments {
            match node.child(segment) {
                Some(child) => node = &self.nodes[child],
                None if *segment == Segment::Rest => return Some(&node.rest),
                None => return None,
            }
        }
        Some(&node.leaf)
    }

    /// The leaf of exactly this pattern, made if there is none.
    fn insert(&mut self, segments: &[Segment]) -> &mut Leaf {
        if let Some(path) = literal_path(segments) {
            self.longest_literal = self.longest_literal.max(path.len());
            return self.literals.entry(path).or_default();
        }
        let mut node = 0;
        for segment in segments {
            if *segment == Segment::Rest {
                return &mut self.nodes[node].rest;
            }
            node = if let Some(child) = self.nodes[node].child(segment) {
                child
            } else {
                let child = self.nodes.len();
                self.nodes.push(Node::default());
                self.nodes[node].add_child(segment, child);
                child
            };
        }
        &mut self.nodes[node].leaf
    }

    /// The method's number, if any route has it or it is a common one.
    fn method_number(&self, method: &[u8]) -> Option<u8> {
        Some(match method {
            b"GET" => GET,
            b"HEAD" => HEAD,
            b"POST" => 2,
            b"PUT" => 3,
            b"DELETE" => 4,
            b"OPTIONS" => 5,
            b"PATCH" => 6,
            _ => {
                let number = self
                    .methods
                    .iter()
                    .position(|known| known.as_bytes() == method)?;
                u8::try_from(number).ok()?
            }
        })
    }

    /// The method's number, a new one if it has none.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "there are at most 64 methods"
    )]
    fn add_method(&mut self, method: &str) -> u8 {
        self.method_number(method.as_bytes()).unwrap_or_else(|| {
            self.methods.push(method.into());
            (self.methods.len() - 1) as u8
        })
    }

    /// Writes the `allow` of a set of methods and of its unions with those there are.
    fn prepare_allow(&mut self, methods: Methods) {
        if self.allow.contains_key(&methods) {
            return;
        }
        let unions: Vec<Methods> = self.allow.keys().map(|other| other | methods).collect();
        self.allow.insert(methods, self.format_allow(methods));
        for union in unions {
            if self.allow.len() < MAX_ALLOW && !self.allow.contains_key(&union) {
                self.allow.insert(union, self.format_allow(union));
            }
        }
    }

    fn format_allow(&self, methods: Methods) -> Box<str> {
        let mut names: Vec<&str> = self
            .methods
            .iter()
            .enumerate()
            .filter(|(number, _)| methods & (1 << number) != 0)
            .map(|(_, name)| &**name)
            .collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.sort_unstable();
        names.dedup();
        names.join(", ").into()
    }

    fn allow(&self, methods: Methods) -> &str {
        if let Some(allow) = self.allow.get(&methods) {
            return allow;
        }
        // More combinations than are kept: as many of the methods as one entry has.
        self.allow
            .iter()
            .filter(|(known, _)| **known & !methods == 0)
            .max_by_key(|(known, _)| known.count_ones())
            .map_or("", |(_, allow)| allow)
    }
}

impl Leaf {
    fn route(&self, method: u8) -> Option<usize> {
        self.routes
            .iter()
            .find(|(known, _)| *known == method)
            .map(|(_, route)| *route)
    }
}

/// One lookup on its way through the tree.
struct Search<'r, 'p> {
    nodes: &'r [Node],
    /// `None`: a method without any route.
    method: Option<u8>,
    parameters: Parameters<'p>,
    /// The methods of all patterns that matched so far.
    allowed: Methods,
}

impl<'p> Search<'_, 'p> {
    /// The route of a pattern that matched.
    fn visit(&mut self, leaf: &Leaf) -> Option<usize> {
        self.allowed |= leaf.methods;
        match self.method? {
            // RFC 9110 §9.3.2: HEAD is GET without the content.
            HEAD => leaf.route(HEAD).or_else(|| leaf.route(GET)),
            method => leaf.route(method),
        }
    }

    /// Matches what is left of the path from a node on, best pattern first. Goes as deep as patterns have segments, and
    /// comes to each node at most once.
    fn walk(&mut self, node: usize, path: &'p [u8]) -> Option<usize> {
        let node = &self.nodes[node];
        // Segments are short: a plain loop beats a call of memchr.
        let (segment, tail) = match path.iter().position(|&byte| byte == b'/') {
            Some(end) => (&path[..end], Some(&path[end + 1..])),
            None => (path, None),
        };
        if let Some(child) = node.literal(segment) {
            if let Some(route) = self.descend(child, tail) {
                return Some(route);
            }
        }
        for affix in &node.affixes {
            if let Some(value) = between(segment, &affix.prefix, &affix.suffix) {
                if let Some(route) = self.descend_with(value, affix.child, tail) {
                    return Some(route);
                }
            }
        }
        if let Some(child) = node.parameter.filter(|_| !segment.is_empty()) {
            if let Some(route) = self.descend_with(segment, child, tail) {
                return Some(route);
            }
        }
        let route = self.visit(&node.rest)?;
        self.parameters.0.push(path);
        Some(route)
    }

    fn descend(&mut self, child: usize, tail: Option<&'p [u8]>) -> Option<usize> {
        match tail {
            Some(path) => self.walk(child, path),
            None => self.visit(&self.nodes[child].leaf),
        }
    }

    fn descend_with(
        &mut self,
        value: &'p [u8],
        child: usize,
        tail: Option<&'p [u8]>,
    ) -> Option<usize> {
        self.parameters.0.push(value);
        let found = self.descend(child, tail);
        if found.is_none() {
            self.parameters.0.pop();
        }
        found
    }
}

impl Node {
    fn child(&self, segment: &Segment) -> Option<usize> {
        match segment {
            Segment::Literal(text) => self.literal(text),
            Segment::Affixed { prefix, suffix } => self
                .affixes
                .iter()
                .find(|affix| affix.prefix == *prefix && affix.suffix == *suffix)
                .map(|affix| affix.child),
            Segment::Parameter => self.parameter,
            Segment::Rest => None,
        }
    }

    fn literal(&self, segment: &[u8]) -> Option<usize> {
        let candidates = match &*self.literals {
            [] => return None,
            [only] => std::slice::from_ref(only),
            many => {
                let hash = hash(segment);
                let start = many.partition_point(|literal| literal.hash < hash);
                let end = start
                    + many[start..]
                        .iter()
                        .take_while(|literal| literal.hash == hash)
                        .count();
                &many[start..end]
            }
        };
        candidates
            .iter()
            .find(|literal| *literal.text == *segment)
            .map(|literal| literal.child)
    }

    fn add_child(&mut self, segment: &Segment, child: usize) {
        match segment {
            Segment::Literal(text) => {
                let hash = hash(text);
                let place = self.literals.partition_point(|literal| literal.hash < hash);
                let text = text.clone();
                self.literals.insert(place, Literal { hash, text, child });
            }
            Segment::Affixed { prefix, suffix } => {
                let text = prefix.len() + suffix.len();
                let place = self
                    .affixes
                    .partition_point(|affix| affix.prefix.len() + affix.suffix.len() >= text);
                let (prefix, suffix) = (prefix.clone(), suffix.clone());
                self.affixes.insert(
                    place,
                    Affix {
                        prefix,
                        suffix,
                        child,
                    },
                );
            }
            Segment::Parameter => self.parameter = Some(child),
            Segment::Rest => {}
        }
    }
}

/// What a segment has between a prefix and a suffix, if that is not empty.
fn between<'p>(segment: &'p [u8], prefix: &[u8], suffix: &[u8]) -> Option<&'p [u8]> {
    segment
        .strip_prefix(prefix)?
        .strip_suffix(suffix)
        .filter(|value| !value.is_empty())
}

/// The path of a pattern without parameters.
fn literal_path(segments: &[Segment]) -> Option<Box<[u8]>> {
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

/// Whether two patterns can match the same path while neither is more specific: the first segment they differ in has text
/// on different sides of the parameter, as in `/a<x>` and `/<x>b`.
fn is_ambiguous(left: &[Segment], right: &[Segment]) -> bool {
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
fn parse(pattern: &str) -> Result<(Vec<Segment>, Vec<&str>), RouteError> {
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

/// A hash for paths: multiply and rotate, eight bytes at a time (as rustc's `FxHash`). The keys are the application's own,
/// so a client can choose which of them it collides with, but not make them collide.
#[derive(Clone, Copy, Debug, Default)]
struct PathHasher(u64);

/// The hash of a segment.
fn hash(segment: &[u8]) -> u64 {
    let mut hasher = PathHasher::default();
    hasher.write_usize(segment.len());
    hasher.write(segment);
    hasher.finish()
}

impl PathHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
}

impl Hasher for PathHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while let Some((word, tail)) = left.split_first_chunk::<8>() {
            self.mix(u64::from_le_bytes(*word));
            left = tail;
        }
        // The last one to seven bytes, read twice where the reads overlap. The length tells `a` from `aa`.
        if let (Some(first), Some(last)) = (left.first_chunk::<4>(), left.last_chunk::<4>()) {
            self.mix(
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)),
            );
        } else if let (Some(first), Some(last)) = (left.first(), left.last()) {
            let middle = left.get(1).copied().unwrap_or_default();
            self.mix(u64::from_le_bytes([*first, middle, *last, 0, 0, 0, 0, 0]));
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.mix(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}
