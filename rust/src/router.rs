//! From a method and a path to a route.
//!
//! A pattern is plain text with parameters: `/users/<id>` and `/img-<id>.png` match one segment or a part of it, never
//! empty, never over a `/`; `<*path>` at the end matches the rest, also an empty one.
//!
//! # Which pattern wins
//!
//! Segments are compared from the left: literal text before text with a parameter in it (the one with more text first)
//! before a parameter on its own before `<*rest>`. The order of registration does not matter. Two patterns that could
//! match the same path and are equal in that order are refused. A path whose best pattern lacks the method goes to the
//! next pattern that has it: `GET /users/me` does not hide `DELETE /users/<id>`. Only when none has it the answer is
//! 405, and `allow` lists the methods of all of them (RFC 9110 §10.2.1).
//!
//! Patterns without a parameter are found by a hash of the whole path, the others in a tree of segments. Both compare
//! bytes: a path that is not UTF-8 matches like any other, and its parameters are the client's bytes.
//!
//! Not here: decoding ([`target`](crate::http::target)), `OPTIONS *`, trailing slashes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;

use smallvec::SmallVec;

use crate::http::grammar::is_token;
use pattern::{Segment, between, is_ambiguous, literal_path, parse};

mod pattern;

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

/// A hash for paths: multiply and rotate, eight bytes at a time (as rustc's `FxHash`). The keys are the application's
/// own: a client can choose which of them its path collides with, but cannot make them collide with each other.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A router with one GET route per pattern, numbered from 0.
    fn router(patterns: &[&str]) -> Router {
        let mut router = Router::new();
        for (route, pattern) in patterns.iter().enumerate() {
            router.add(pattern, &["GET"], route).unwrap();
        }
        router
    }

    fn found<'p>(router: &Router, method: &str, path: &'p [u8]) -> Option<(usize, Vec<&'p [u8]>)> {
        match router.lookup(method.as_bytes(), path) {
            Lookup::Found { route, parameters } => Some((route, parameters.to_vec())),
            _ => None,
        }
    }

    /// A path, the pattern it should match, and the parameters.
    type Case<'a> = (&'a str, Option<(&'a str, &'a [&'a str])>);

    /// Registers the patterns in every rotation, forwards and backwards, and expects the same answers.
    fn in_every_order(patterns: &[&str], cases: &[Case<'_>]) {
        for rotation in 0..patterns.len() {
            for backwards in [false, true] {
                let mut order = patterns.to_vec();
                order.rotate_left(rotation);
                if backwards {
                    order.reverse();
                }
                let router = router(&order);
                for (path, expected) in cases {
                    let found = found(&router, "GET", path.as_bytes());
                    let found = found.map(|(route, values)| {
                        let text = |value| std::str::from_utf8(value).unwrap();
                        (
                            order[route],
                            values.into_iter().map(text).collect::<Vec<_>>(),
                        )
                    });
                    let expected = expected.map(|(pattern, values)| (pattern, values.to_vec()));
                    assert_eq!(found, expected, "{path} in {order:?}");
                }
            }
        }
    }

    #[test]
    fn text_wins_over_parameters_and_parameters_over_the_rest() {
        in_every_order(
            &[
                "/",
                "/users",
                "/users/",
                "/users/me",
                "/users/<id>",
                "/users/<id>/posts",
                "/users/<*rest>",
                "/<a>/<b>",
            ],
            &[
                ("/", Some(("/", &[]))),
                ("/users", Some(("/users", &[]))),
                ("/users/", Some(("/users/", &[]))),
                ("/users/me", Some(("/users/me", &[]))),
                ("/users/5", Some(("/users/<id>", &["5"]))),
                ("/users/me/posts", Some(("/users/<id>/posts", &["me"]))),
                ("/users/5/posts", Some(("/users/<id>/posts", &["5"]))),
                ("/users/5/likes", Some(("/users/<*rest>", &["5/likes"]))),
                ("/users//posts", Some(("/users/<*rest>", &["/posts"]))),
                ("/other/5", Some(("/<a>/<b>", &["other", "5"]))),
                ("/other/5/6", None),
                ("/other", None),
                ("/Users", None),
            ],
        );
    }

    #[test]
    fn segments_are_compared_from_the_left() {
        in_every_order(
            &["/a/<x>", "/<x>/b", "/<x>/<y>", "/static/<*path>"],
            &[
                ("/a/b", Some(("/a/<x>", &["b"]))),
                ("/c/b", Some(("/<x>/b", &["c"]))),
                ("/c/d", Some(("/<x>/<y>", &["c", "d"]))),
                ("/static/b", Some(("/static/<*path>", &["b"]))),
                ("/static/a/b.css", Some(("/static/<*path>", &["a/b.css"]))),
            ],
        );
    }

    #[test]
    fn a_dead_end_does_not_hide_another_pattern() {
        in_every_order(
            &["/a/<x>/c", "/<x>/b/d", "/<x>/<y>/<z>", "/<*rest>"],
            &[
                ("/a/b/c", Some(("/a/<x>/c", &["b"]))),
                ("/a/b/d", Some(("/<x>/b/d", &["a"]))),
                ("/a/b/e", Some(("/<x>/<y>/<z>", &["a", "b", "e"]))),
                ("/a/b/e/f", Some(("/<*rest>", &["a/b/e/f"]))),
                ("/a//e", Some(("/<*rest>", &["a//e"]))),
            ],
        );
    }

    #[test]
    fn more_text_in_a_segment_wins() {
        in_every_order(
            &["/f/<x>", "/f/<x>.gz", "/f/<x>.tar.gz", "/f/img-<x>.tar.gz"],
            &[
                ("/f/a", Some(("/f/<x>", &["a"]))),
                ("/f/a.gz", Some(("/f/<x>.gz", &["a"]))),
                ("/f/a.tar.gz", Some(("/f/<x>.tar.gz", &["a"]))),
                ("/f/.tar.gz", Some(("/f/<x>.gz", &[".tar"]))),
                ("/f/.gz", Some(("/f/<x>", &[".gz"]))),
                ("/f/img-1.tar.gz", Some(("/f/img-<x>.tar.gz", &["1"]))),
                ("/f/img-.tar.gz", Some(("/f/<x>.tar.gz", &["img-"]))),
                ("/f/img-1.gz", Some(("/f/<x>.gz", &["img-1"]))),
            ],
        );
        in_every_order(
            &[
                "/f/img-<x>",
                "/f/img-big-<x>",
                "/f/img-big-<x>.png",
                "/g/img-<x>.png",
            ],
            &[
                ("/f/img-1", Some(("/f/img-<x>", &["1"]))),
                ("/f/img-big-1.png", Some(("/f/img-big-<x>.png", &["1"]))),
                ("/f/img-1.png", Some(("/f/img-<x>", &["1.png"]))),
                ("/f/img-big-1", Some(("/f/img-big-<x>", &["1"]))),
                ("/f/img-big-", Some(("/f/img-<x>", &["big-"]))),
                ("/f/img-", None),
                ("/g/img-7.png", Some(("/g/img-<x>.png", &["7"]))),
                ("/g/img-.png", None),
                ("/g/img.png", None),
                ("/g/img-7.png/", None),
            ],
        );
    }

    #[test]
    fn the_rest_may_be_empty_but_a_parameter_may_not() {
        in_every_order(
            &["/static/<*path>", "/users/<id>", "/users/<id>/", "/x/<a>/y"],
            &[
                ("/static/", Some(("/static/<*path>", &[""]))),
                ("/static//", Some(("/static/<*path>", &["/"]))),
                ("/static", None),
                ("/users/", None),
                ("/users", None),
                ("/users/1/", Some(("/users/<id>/", &["1"]))),
                ("/x//y", None),
            ],
        );
        in_every_order(
            &["/<*everything>"],
            &[
                ("/", Some(("/<*everything>", &[""]))),
                ("/a/", Some(("/<*everything>", &["a/"]))),
            ],
        );
    }

    #[test]
    fn paths_are_bytes() {
        let router = router(&["/café/<x>", "/{id}/<x>", "/100%", "/ü", "/raw/<x>", "/<x>%"]);
        for (path, expected) in [
            ("/café/é".as_bytes(), Some((0, vec!["é".as_bytes()]))),
            (b"/{id}/1", Some((1, vec![b"1"]))),
            (b"/7/1", None),
            (b"/100%25", Some((2, vec![]))),
            (b"/100%", None),
            (b"/99%25", Some((5, vec![b"99"]))),
            ("/ü".as_bytes(), Some((3, vec![]))),
            ("/u\u{308}".as_bytes(), None),
            (b"/raw/\xff\xfe", Some((4, vec![b"\xff\xfe"]))),
            (b"/raw/a%2Fb%25", Some((4, vec![b"a%2Fb%25"]))),
            (b"/caf\xe9/x", None),
            (b"/raw/<x>", Some((4, vec![b"<x>"]))),
            (b"", None),
            (b"*", None),
            (b"raw/1", None),
        ] {
            assert_eq!(found(&router, "GET", path), expected, "{path:?}");
        }
    }

    #[test]
    fn keeps_many_parameters_in_order() {
        let names: Vec<String> = (0..40).map(|n| format!("<p{n}>")).collect();
        let router = router(&[&format!("/{}", names.join("/"))]);
        let values: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let path = format!("/{}", values.join("/"));
        let (_, parameters) = found(&router, "GET", path.as_bytes()).unwrap();
        assert_eq!(
            parameters,
            values.iter().map(String::as_bytes).collect::<Vec<_>>()
        );
    }

    #[test]
    fn finds_each_of_many_literal_segments() {
        let patterns: Vec<String> = (0..500).map(|n| format!("/api/r{n}/<id>")).collect();
        let mut router = Router::new();
        for (route, pattern) in patterns.iter().enumerate() {
            router.add(pattern, &["GET"], route).unwrap();
            router
                .add(
                    &format!("/lit/{}", "x".repeat(route)),
                    &["GET"],
                    1_000 + route,
                )
                .unwrap();
        }
        for route in 0..500 {
            let path = format!("/api/r{route}/7");
            assert_eq!(
                found(&router, "GET", path.as_bytes()),
                Some((route, vec![&b"7"[..]]))
            );
            let path = format!("/lit/{}", "x".repeat(route));
            assert_eq!(
                found(&router, "GET", path.as_bytes()),
                Some((1_000 + route, vec![]))
            );
        }
    }

    #[test]
    fn head_goes_to_get_unless_it_has_its_own_route() {
        let mut router = Router::new();
        router.add("/a", &["GET"], 1).unwrap();
        router.add("/b", &["HEAD"], 2).unwrap();
        router.add("/b", &["GET"], 3).unwrap();
        router.add("/c/<x>", &["POST"], 4).unwrap();
        assert_eq!(found(&router, "HEAD", b"/a"), Some((1, vec![])));
        assert_eq!(found(&router, "HEAD", b"/b"), Some((2, vec![])));
        assert_eq!(found(&router, "GET", b"/b"), Some((3, vec![])));
        let allow = "OPTIONS, POST";
        assert_eq!(
            router.lookup(b"HEAD", b"/c/1"),
            Lookup::MethodNotAllowed { allow }
        );
    }

    #[test]
    fn options_and_405_list_the_methods_in_order() {
        let mut router = Router::new();
        router.add("/a", &["POST", "GET"], 1).unwrap();
        router.add("/a", &["DELETE", "BREW"], 2).unwrap();
        router.add("/b/<x>", &["HEAD"], 3).unwrap();
        router.add("/c", &["OPTIONS", "PUT"], 4).unwrap();
        let allow = "BREW, DELETE, GET, HEAD, OPTIONS, POST";
        assert_eq!(router.lookup(b"OPTIONS", b"/a"), Lookup::Options { allow });
        // RFC 9110 §9.1: methods are case-sensitive.
        for method in [&b"PUT"[..], b"get", b"UNHEARD-OF", b""] {
            assert_eq!(
                router.lookup(method, b"/a"),
                Lookup::MethodNotAllowed { allow }
            );
            assert_eq!(router.lookup(method, b"/none"), Lookup::NotFound);
        }
        assert_eq!(found(&router, "BREW", b"/a"), Some((2, vec![])));
        let allow = "HEAD, OPTIONS";
        assert_eq!(
            router.lookup(b"GET", b"/b/1"),
            Lookup::MethodNotAllowed { allow }
        );
        assert_eq!(found(&router, "OPTIONS", b"/c"), Some((4, vec![])));
        let allow = "OPTIONS, PUT";
        assert_eq!(
            router.lookup(b"GET", b"/c"),
            Lookup::MethodNotAllowed { allow }
        );
        assert_eq!(router.lookup(b"OPTIONS", b"/none"), Lookup::NotFound);
    }

    #[test]
    fn a_method_goes_to_the_best_pattern_that_has_it() {
        let mut router = Router::new();
        router.add("/users/me", &["GET"], 1).unwrap();
        router.add("/users/<id>", &["GET", "DELETE"], 2).unwrap();
        router.add("/users/<id>", &["PATCH"], 3).unwrap();
        router.add("/<*path>", &["PUT"], 4).unwrap();
        assert_eq!(found(&router, "GET", b"/users/me"), Some((1, vec![])));
        assert_eq!(found(&router, "HEAD", b"/users/me"), Some((1, vec![])));
        assert_eq!(
            found(&router, "DELETE", b"/users/me"),
            Some((2, vec![&b"me"[..]]))
        );
        assert_eq!(
            found(&router, "PATCH", b"/users/me"),
            Some((3, vec![&b"me"[..]]))
        );
        assert_eq!(
            found(&router, "PUT", b"/users/me"),
            Some((4, vec![&b"users/me"[..]]))
        );
        let allow = "DELETE, GET, HEAD, OPTIONS, PATCH, PUT";
        assert_eq!(
            router.lookup(b"POST", b"/users/me"),
            Lookup::MethodNotAllowed { allow }
        );
        assert_eq!(
            router.lookup(b"OPTIONS", b"/users/5"),
            Lookup::Options { allow }
        );
        let allow = "OPTIONS, PUT";
        assert_eq!(
            router.lookup(b"GET", b"/x"),
            Lookup::MethodNotAllowed { allow }
        );
    }

    #[test]
    fn lists_methods_even_when_the_combinations_are_too_many_to_keep() {
        let mut router = Router::new();
        let methods: Vec<String> = (0..20).map(|n| format!("M{n:02}")).collect();
        for (route, method) in methods.iter().enumerate() {
            router
                .add(&format!("/{route}/<x>"), &[method], route)
                .unwrap();
        }
        router.add("/<a>/<b>", &["LAST"], 99).unwrap();
        assert!(router.allow.len() <= MAX_ALLOW + methods.len());
        let Lookup::MethodNotAllowed { allow } = router.lookup(b"GET", b"/19/1") else {
            panic!("not 405");
        };
        assert!(
            allow
                .split(", ")
                .all(|name| ["LAST", "M19", "OPTIONS"].contains(&name)),
            "{allow}"
        );
        assert!(allow.contains("LAST") || allow.contains("M19"));
    }

    #[test]
    fn the_same_pattern_and_method_twice_is_refused() {
        for (first, second) in [
            ("/a", "/a"),
            ("/", "/"),
            ("/<x>", "/<y>"),
            ("/a/<x>/b", "/a/<y>/b"),
            ("/p-<x>.s", "/p-<y>.s"),
            ("/<*x>", "/<*y>"),
            ("/100%", "/100%"),
        ] {
            let mut router = Router::new();
            router.add(first, &["GET", "POST"], 7).unwrap();
            let duplicate = RouteError::Duplicate {
                existing: 7,
                method: "POST".into(),
            };
            assert_eq!(router.add(second, &["PUT", "POST"], 8), Err(duplicate));
            // Nothing of the refused route is left, and other methods are welcome.
            assert_eq!(router.add(second, &["PUT"], 9), Ok(()));
            assert_eq!(router.add(second, &["put"], 10), Ok(()));
        }
        let mut router = Router::new();
        assert_eq!(router.add("/a", &["GET", "GET"], 1), Ok(()));
    }

    #[test]
    fn methods_must_be_tokens() {
        for methods in [&[][..], &[""], &["GET POST"], &["GET", "G\r\n"]] {
            let error = Router::new().add("/", methods, 0);
            assert!(
                matches!(error, Err(RouteError::BadPattern(_))),
                "{methods:?}"
            );
        }
    }

    #[test]
    fn there_may_be_sixty_four_methods() {
        let names: Vec<String> = (0..57).map(|n| format!("M{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut router = Router::new();
        router.add("/a", &names, 0).unwrap();
        assert_eq!(found(&router, "M56", b"/a"), Some((0, vec![])));
        assert!(matches!(
            router.add("/b", &["ONE-MORE"], 1),
            Err(RouteError::BadPattern(_))
        ));
        assert_eq!(router.add("/b", &["M3", "GET"], 1), Ok(()));
    }

    #[test]
    fn the_common_methods_have_their_numbers() {
        let router = Router::new();
        for (number, method) in COMMON.iter().enumerate() {
            assert_eq!(
                router.method_number(method.as_bytes()).map(usize::from),
                Some(number)
            );
        }
    }

    /// How well a pattern matches a path, segment by segment (smaller is better), and the parameters.
    struct Naive<'p> {
        ranks: Vec<(u8, usize)>,
        values: Vec<&'p [u8]>,
    }

    fn naive_match<'p>(pattern: &str, path: &'p str) -> Option<Naive<'p>> {
        let (mut ranks, mut values) = (Vec::new(), Vec::new());
        let mut left = Some(path.strip_prefix('/')?);
        for part in pattern.split('/').skip(1) {
            let path = left?;
            if part.starts_with("<*") {
                ranks.push((3, 0));
                values.push(path.as_bytes());
                return Some(Naive { ranks, values });
            }
            let (segment, tail) = match path.split_once('/') {
                Some((segment, tail)) => (segment, Some(tail)),
                None => (path, None),
            };
            left = tail;
            if let Some((prefix, suffix)) = part.split_once('<') {
                let (_, suffix) = suffix.split_once('>')?;
                let value = segment.strip_prefix(prefix)?.strip_suffix(suffix)?;
                values.push((!value.is_empty()).then_some(value.as_bytes())?);
                let text = prefix.len() + suffix.len();
                ranks.push(if text == 0 { (2, 0) } else { (1, 100 - text) });
            } else {
                ranks.push((segment == part).then_some((0, 0))?);
            }
        }
        left.is_none().then_some(Naive { ranks, values })
    }

    /// What a list of patterns and methods, sorted for this path, has to say.
    fn naive_lookup(model: &[(String, &str)], method: &str, path: &str) -> String {
        let mut candidates: Vec<_> = model
            .iter()
            .enumerate()
            .filter_map(|(route, (pattern, own))| {
                let Naive { ranks, values } = naive_match(pattern, path)?;
                // HEAD goes to GET, after the HEAD route of the same pattern.
                let served = match (method, *own) {
                    ("HEAD", "GET") => Some(1),
                    _ => (method == *own).then_some(0),
                };
                Some((ranks, served, route, values, *own))
            })
            .collect();
        candidates.sort();
        if let Some((_, _, route, values, _)) =
            candidates.iter().find(|(_, served, ..)| served.is_some())
        {
            return format!("{route} {values:?}");
        }
        let mut allow: Vec<&str> = candidates.iter().map(|(.., own)| *own).collect();
        if allow.is_empty() {
            return "not found".to_owned();
        }
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        allow.push("OPTIONS");
        allow.sort_unstable();
        allow.dedup();
        format!("{} {}", method == "OPTIONS", allow.join(", "))
    }

    #[test]
    fn behaves_like_a_sorted_list_of_patterns() {
        let segments = "a b ab <N> <N> a<N> ab<N> <N>b <N>bb a<N>b  <*N>";
        let segments: Vec<&str> = segments.split(' ').collect();
        let parts: Vec<&str> = "a b ab abb aab ba c  aabb abab".split(' ').collect();
        let methods = ["GET", "POST", "HEAD", "OPTIONS", "X-OTHER"];
        let mut state = 7_u64;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let (mut matches, mut refusals) = (0, 0);
        for _ in 0..300 {
            let mut router = Router::new();
            let mut model: Vec<(String, &str)> = Vec::new();
            for _ in 0..random(14) {
                let mut pattern = String::new();
                for place in 0..=random(3) {
                    let segment =
                        segments[random(segments.len())].replace('N', &format!("p{place}"));
                    pattern = format!("{pattern}/{segment}");
                    if segment.starts_with("<*") {
                        break;
                    }
                }
                let method = methods[random(methods.len())];
                match router.add(&pattern, &[method], model.len()) {
                    Ok(()) => model.push((pattern, method)),
                    Err(RouteError::Duplicate { existing, .. }) => {
                        assert_eq!(model[existing], (pattern, method));
                    }
                    Err(RouteError::Conflict { existing }) => {
                        assert!(existing < model.len());
                        refusals += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            for _ in 0..60 {
                let mut path = String::new();
                for _ in 0..=random(3) {
                    path = format!("{path}/{}", parts[random(parts.len())]);
                }
                for method in methods {
                    let answer = match router.lookup(method.as_bytes(), path.as_bytes()) {
                        Lookup::Found { route, parameters } => {
                            matches += 1;
                            format!("{route} {:?}", &*parameters)
                        }
                        Lookup::Options { allow } => format!("true {allow}"),
                        Lookup::MethodNotAllowed { allow } => format!("false {allow}"),
                        Lookup::NotFound => "not found".to_owned(),
                    };
                    let expected = naive_lookup(&model, method, &path);
                    assert_eq!(answer, expected, "{method} {path} in {model:?}");
                }
            }
        }
        assert!(matches > 1_000 && refusals > 50, "{matches} {refusals}");
    }
}
