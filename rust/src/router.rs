//! From a method, a host and a path to a route.
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
//! # Hosts and expressions
//!
//! A route may be bound to hosts. Those of the request's host come first: of its name, then of the names that it is
//! below (`*.example.com`, the longest first), then of expressions in the order in which they came; routes without hosts
//! come last. In each of these groups the patterns come before the expressions for paths, which are tried in the order in
//! which they came.
//!
//! What an expression matches is known to whoever looks up: an expression is a number here, and a question. Where no
//! route has either, nobody is asked and the host is not looked at.
//!
//! # The slash at the end
//!
//! A [`Strategy`] says what `/a/` is to the route of `/a`, and `/a` to that of `/a/`: nothing, the same, or a redirect. It
//! is as if the other spelling were registered too, except that a route which has it for its own comes first.
//!
//! Not here: decoding ([`target`](crate::http::target)), `OPTIONS *`.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::http::grammar::is_token;
use hosts::{Hosts, Key, name_of};
use pattern::{Segment, other_spelling_of, parse};
use tree::{Entry, GET, HEAD, Leaf, Methods, Search, Spelling, Tree};

pub use hosts::Host;
pub use location::other_spelling;

mod hosts;
mod location;
mod pattern;
mod tree;

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

/// What a route matches paths with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// Text with parameters.
    Text(&'a str),
    /// An expression that the whole path matches; whoever looks up says whether it does.
    Expression(usize),
}

/// What a pattern's other spelling, with or without the slash at its end, is to its route.
///
/// The path `/`, rests (which have the slash in them) and expressions have no other spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Another path.
    #[default]
    Strict,
    /// A path that redirects to the pattern's own spelling.
    Redirect,
    /// The same.
    Clone,
}

/// What a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The paths.
    pub pattern: Pattern<'a>,
    /// The methods, which are case-sensitive (RFC 9110 §9.1).
    pub methods: &'a [&'a str],
    /// The hosts; all of them when there are none.
    pub hosts: &'a [Host<'a>],
    /// Whether the slash at the end counts.
    pub strategy: Strategy,
}

/// The answer to a method, a host and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<'r, 'p> {
    /// A route handles it. HEAD is handled by the route for GET when there is none of its own (RFC 9110 §9.3.2).
    Found {
        /// The route's id.
        route: usize,
        /// The path's parameters.
        parameters: Parameters<'p>,
    },
    /// A route handles it whose expression matches: the last one that was asked about. Else as `Found`.
    Matched {
        /// The route's id.
        route: usize,
    },
    /// A route handles it under the path's [other spelling](other_spelling).
    Redirect {
        /// The route's id.
        route: usize,
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

impl<'p> FromIterator<&'p [u8]> for Parameters<'p> {
    fn from_iter<I: IntoIterator<Item = &'p [u8]>>(values: I) -> Self {
        Self(values.into_iter().collect())
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
    /// The routes without hosts.
    anywhere: Group,
    hosts: Hosts<Group>,
    /// Some route has a host or an expression.
    is_conditional: bool,
    methods: Vec<Box<str>>,
    /// The value of `allow` for each set of methods that patterns have, alone or together.
    allow: HashMap<Methods, Box<str>>,
}

/// The routes of one host, or of none.
#[derive(Clone, Debug, Default)]
struct Group {
    tree: Tree,
    /// In the order in which they came.
    expressions: Vec<(usize, Leaf)>,
}

impl Group {
    fn expression(&self, expression: usize) -> Option<&Leaf> {
        self.expressions
            .iter()
            .find(|(other, _)| *other == expression)
            .map(|(_, leaf)| leaf)
    }

    fn insert_expression(&mut self, expression: usize) -> &mut Leaf {
        let place = self
            .expressions
            .iter()
            .position(|(other, _)| *other == expression)
            .unwrap_or_else(|| {
                self.expressions.push((expression, Leaf::default()));
                self.expressions.len() - 1
            });
        &mut self.expressions[place].1
    }

    /// The route of a path in this group, and whether it is an expression that matched.
    fn search<'r, 'p>(
        &'r self,
        path: &'p [u8],
        search: &mut Search<'r, 'p>,
        matches: &mut dyn FnMut(usize, &[u8]) -> bool,
    ) -> Option<(Entry, bool)> {
        if let Some(entry) = self.tree.search(path, search) {
            return Some((entry, false));
        }
        for (expression, leaf) in &self.expressions {
            if matches(*expression, path) {
                if let Some(entry) = search.visit(leaf) {
                    return Some((entry, true));
                }
            }
        }
        None
    }
}

/// The first of [`Router::methods`], so that their numbers need no search.
const COMMON: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// How many combinations of method sets have their `allow` ready. The nine common methods make at most 512.
const MAX_ALLOW: usize = 4096;

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Pattern`] is kept as.
enum Place {
    Segments {
        own: Vec<Segment>,
        other: Option<(Vec<Segment>, Spelling)>,
    },
    Expression(usize),
}

impl Place {
    fn new(pattern: Pattern<'_>, strategy: Strategy) -> Result<Self, RouteError> {
        let text = match pattern {
            Pattern::Text(text) => text,
            Pattern::Expression(expression) => return Ok(Self::Expression(expression)),
        };
        let (own, _) = parse(text)?;
        let spelling = match strategy {
            Strategy::Strict => None,
            Strategy::Redirect => Some(Spelling::Redirect),
            Strategy::Clone => Some(Spelling::Clone),
        };
        let other = spelling.and_then(|spelling| Some((other_spelling_of(&own)?, spelling)));
        Ok(Self::Segments { own, other })
    }
}

impl Router {
    /// Returns a router without routes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            anywhere: Group::default(),
            hosts: Hosts::default(),
            is_conditional: false,
            methods: COMMON.map(Into::into).into(),
            allow: HashMap::new(),
        }
    }

    /// Adds a route for a pattern and some methods, for every host, where the slash at the end counts.
    ///
    /// # Errors
    ///
    /// [`RouteError`]; the router is unchanged.
    pub fn add(&mut self, pattern: &str, methods: &[&str], route: usize) -> Result<(), RouteError> {
        let scope = Scope {
            pattern: Pattern::Text(pattern),
            methods,
            hosts: &[],
            strategy: Strategy::Strict,
        };
        self.add_scoped(&scope, route)
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// [`RouteError`]; the router is unchanged.
    pub fn add_scoped(&mut self, scope: &Scope<'_>, route: usize) -> Result<(), RouteError> {
        let place = Place::new(scope.pattern, scope.strategy)?;
        self.check_methods(scope)?;
        let mut keys: Vec<Key> = Vec::new();
        for host in scope.hosts {
            let key = Key::new(host)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            self.check_free(&self.anywhere, &place, scope.methods)?;
        }
        for key in &keys {
            if let Some(group) = self.hosts.get(key) {
                self.check_free(group, &place, scope.methods)?;
            }
        }

        self.is_conditional |= !keys.is_empty() || matches!(place, Place::Expression(_));
        let numbers: Vec<u8> = scope
            .methods
            .iter()
            .map(|method| self.add_method(method))
            .collect();
        let mut sets: Vec<Methods> = Vec::new();
        if keys.is_empty() {
            insert(&mut self.anywhere, &place, &numbers, route, &mut sets);
        }
        for key in &keys {
            let group = self.hosts.entry(key);
            insert(group, &place, &numbers, route, &mut sets);
        }
        for methods in sets {
            self.prepare_allow(methods);
        }
        Ok(())
    }

    /// The methods are methods, and there is room for them.
    fn check_methods(&self, scope: &Scope<'_>) -> Result<(), RouteError> {
        let what = match scope.pattern {
            Pattern::Text(text) => format!("{text:?}"),
            Pattern::Expression(_) => "an expression".to_owned(),
        };
        if scope.methods.is_empty() {
            return Err(RouteError::BadPattern(format!(
                "no method for {what}: expected at least one"
            )));
        }
        let mut new = 0;
        for method in scope.methods {
            if !is_token(method.as_bytes()) {
                return Err(RouteError::BadPattern(format!(
                    "method {method:?} for {what}: expected a token such as \"GET\""
                )));
            }
            new += usize::from(self.method_number(method.as_bytes()).is_none());
        }
        if self.methods.len() + new > Methods::BITS as usize {
            return Err(RouteError::BadPattern(format!(
                "methods for {what}: expected at most {} different ones in all routes",
                Methods::BITS
            )));
        }
        Ok(())
    }

    /// No route of a group answers the same requests.
    fn check_free(&self, group: &Group, place: &Place, methods: &[&str]) -> Result<(), RouteError> {
        let leaf = match place {
            Place::Segments { own, .. } => group.tree.find(own),
            Place::Expression(expression) => group.expression(*expression),
        };
        if let Some(leaf) = leaf {
            for method in methods {
                let number = self.method_number(method.as_bytes());
                if let Some(existing) = number.and_then(|number| leaf.owner(number)) {
                    return Err(RouteError::Duplicate {
                        existing,
                        method: (*method).to_owned(),
                    });
                }
            }
        }
        let Place::Segments { own, other } = place else {
            return Ok(());
        };
        let other = other.as_ref().map(|(segments, _)| segments);
        match std::iter::once(own)
            .chain(other)
            .find_map(|segments| group.tree.ambiguous(segments))
        {
            Some(existing) => Err(RouteError::Conflict { existing }),
            None => Ok(()),
        }
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

    /// Whether hosts or expressions count: [`lookup_for`](Self::lookup_for) knows them, [`lookup`](Self::lookup) does
    /// not.
    #[must_use]
    #[inline]
    pub fn is_conditional(&self) -> bool {
        self.is_conditional
    }

    /// Finds the route for a method and a path, which is percent-decoded but for `%2F` and `%25`
    /// ([`decode_path`](crate::http::target::decode_path)), among the routes without hosts and expressions.
    #[must_use]
    pub fn lookup<'r, 'p>(&'r self, method: &[u8], path: &'p [u8]) -> Lookup<'r, 'p> {
        let mut search = Search::new(self.method_number(method));
        match self.anywhere.tree.search(path, &mut search) {
            Some(found) if found.spelling != Spelling::Redirect => Lookup::Found {
                route: found.route,
                parameters: search.parameters,
            },
            found => self.answer_otherwise(method, found, search.allowed),
        }
    }

    /// Finds the route for a method, the authority that a request is for, and a path as for [`lookup`](Self::lookup).
    ///
    /// `matches` says whether an expression matches the whole of a host's name or of a path.
    pub fn lookup_for<'r, 'p>(
        &'r self,
        method: &[u8],
        authority: &[u8],
        path: &'p [u8],
        matches: &mut dyn FnMut(usize, &[u8]) -> bool,
    ) -> Lookup<'r, 'p> {
        let mut search = Search::new(self.method_number(method));
        let found = self.find(authority, path, &mut search, matches);
        match found {
            Some((entry, true)) => Lookup::Matched { route: entry.route },
            Some((entry, _)) if entry.spelling != Spelling::Redirect => Lookup::Found {
                route: entry.route,
                parameters: search.parameters,
            },
            found => {
                let found = found.map(|(entry, _)| entry);
                self.answer_otherwise(method, found, search.allowed)
            }
        }
    }

    /// The route, and whether it is an expression that matched.
    fn find<'r, 'p>(
        &'r self,
        authority: &[u8],
        path: &'p [u8],
        search: &mut Search<'r, 'p>,
        matches: &mut dyn FnMut(usize, &[u8]) -> bool,
    ) -> Option<(Entry, bool)> {
        if !self.hosts.is_empty() {
            if let Some(name) = name_of(authority) {
                for group in self.hosts.named(&name) {
                    if let Some(found) = group.search(path, search, matches) {
                        return Some(found);
                    }
                }
                for (expression, group) in self.hosts.expressions() {
                    if matches(expression, &name) {
                        if let Some(found) = group.search(path, search, matches) {
                            return Some(found);
                        }
                    }
                }
            }
        }
        self.anywhere.search(path, search, matches)
    }

    /// The answer where no route handles the request.
    #[cold]
    fn answer_otherwise<'p>(
        &self,
        method: &[u8],
        redirect: Option<Entry>,
        allowed: Methods,
    ) -> Lookup<'_, 'p> {
        if let Some(Entry { route, .. }) = redirect {
            return Lookup::Redirect { route };
        }
        if allowed == 0 {
            return Lookup::NotFound;
        }
        let allow = self.allow(allowed);
        if method == b"OPTIONS" {
            Lookup::Options { allow }
        } else {
            Lookup::MethodNotAllowed { allow }
        }
    }

    /// The method's number, if any route has it or it is a common one.
    #[inline]
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

/// Puts a route into a group, and the methods that its patterns then have into `sets`.
fn insert(group: &mut Group, place: &Place, methods: &[u8], route: usize, sets: &mut Vec<Methods>) {
    let mut fill = |leaf: &mut Leaf, spelling| {
        for &method in methods {
            leaf.add(method, spelling, route);
        }
        sets.push(leaf.methods);
    };
    match place {
        Place::Expression(expression) => {
            fill(group.insert_expression(*expression), Spelling::Own);
        }
        Place::Segments { own, other } => {
            fill(group.tree.insert(own, route), Spelling::Own);
            if let Some((segments, spelling)) = other {
                fill(group.tree.insert(segments, route), *spelling);
            }
        }
    }
}

#[cfg(test)]
mod tests;
