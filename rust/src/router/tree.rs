//! Patterns with parameters as a tree of segments, those without in a hash map: one `Tree` for each set of hosts.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use smallvec::SmallVec;

use super::Parameters;
use super::pattern::{Segment, between, is_ambiguous, literal_path};

/// A set of methods: bit `n` is the `n`th of the router's methods.
pub(super) type Methods = u64;

pub(super) const GET: u8 = 0;
pub(super) const HEAD: u8 = 1;

/// How a route came to a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The pattern is its own.
    Own,
    /// The pattern is its own but for the slash at the end, and it answers there too.
    Clone,
    /// The same, and there it sends to its own.
    Redirect,
}

/// A route at a pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    method: u8,
    pub(super) spelling: Spelling,
    pub(super) route: usize,
}

/// What a pattern leads to.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    entries: SmallVec<[Entry; 2]>,
    pub(super) methods: Methods,
}

impl Leaf {
    pub(super) fn entry(&self, method: u8) -> Option<Entry> {
        self.entries
            .iter()
            .find(|entry| entry.method == method)
            .copied()
    }

    /// The route that has the pattern and the method for its own.
    pub(super) fn owner(&self, method: u8) -> Option<usize> {
        self.entry(method)
            .filter(|entry| entry.spelling == Spelling::Own)
            .map(|entry| entry.route)
    }

    /// Adds a route. What a route has for its own is never taken away, what it has besides is.
    pub(super) fn add(&mut self, method: u8, spelling: Spelling, route: usize) {
        let new = Entry {
            method,
            spelling,
            route,
        };
        match self.entries.iter_mut().find(|entry| entry.method == method) {
            None => self.entries.push(new),
            Some(old) if old.spelling != Spelling::Own && spelling == Spelling::Own => *old = new,
            Some(_) => {}
        }
        self.methods |= 1 << method;
    }
}

/// The patterns of some routes.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    literals: HashMap<Box<[u8]>, Leaf, BuildHasherDefault<PathHasher>>,
    /// The longest path in `literals`: nothing longer is hashed.
    longest_literal: usize,
    /// The patterns with parameters; the first node stands after the path's leading `/`.
    nodes: Vec<Node>,
    /// The patterns that have text next to a parameter, the only ones that can be ambiguous.
    affixed: Vec<(Vec<Segment>, usize)>,
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

impl Default for Tree {
    fn default() -> Self {
        Self {
            literals: HashMap::default(),
            longest_literal: 0,
            nodes: vec![Node::default()],
            affixed: Vec::new(),
        }
    }
}

impl Tree {
    /// The leaf of exactly this pattern.
    pub(super) fn find(&self, segments: &[Segment]) -> Option<&Leaf> {
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

    /// The route of a pattern that matches some of the same paths while neither is more specific.
    pub(super) fn ambiguous(&self, segments: &[Segment]) -> Option<usize> {
        self.affixed
            .iter()
            .find(|(other, _)| is_ambiguous(segments, other))
            .map(|(_, route)| *route)
    }

    /// The leaf of exactly this pattern, made if there is none, for a route.
    pub(super) fn insert(&mut self, segments: &[Segment], route: usize) -> &mut Leaf {
        if segments
            .iter()
            .any(|segment| matches!(segment, Segment::Affixed { .. }))
        {
            self.affixed.push((segments.to_vec(), route));
        }
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

    /// Finds the route of a path among these patterns.
    #[inline]
    pub(super) fn search<'r, 'p>(
        &'r self,
        path: &'p [u8],
        search: &mut Search<'r, 'p>,
    ) -> Option<Entry> {
        if path.len() <= self.longest_literal {
            if let Some(leaf) = self.literals.get(path) {
                if let Some(entry) = search.visit(leaf) {
                    return Some(entry);
                }
            }
        }
        match path {
            [b'/', rest @ ..] => {
                search.nodes = &self.nodes;
                search.walk(0, rest)
            }
            _ => None,
        }
    }
}

/// One lookup on its way through the patterns.
pub(super) struct Search<'r, 'p> {
    nodes: &'r [Node],
    /// `None`: a method without any route.
    method: Option<u8>,
    pub(super) parameters: Parameters<'p>,
    /// The methods of all patterns that matched so far.
    pub(super) allowed: Methods,
}

impl<'p> Search<'_, 'p> {
    #[inline]
    pub(super) fn new(method: Option<u8>) -> Self {
        Self {
            nodes: &[],
            method,
            parameters: Parameters::default(),
            allowed: 0,
        }
    }

    /// The route of a pattern that matched.
    pub(super) fn visit(&mut self, leaf: &Leaf) -> Option<Entry> {
        self.allowed |= leaf.methods;
        match self.method? {
            // RFC 9110 §9.3.2: HEAD is GET without the content.
            HEAD => leaf.entry(HEAD).or_else(|| leaf.entry(GET)),
            method => leaf.entry(method),
        }
    }

    /// Matches what is left of the path from a node on, best pattern first. Goes as deep as patterns have segments, and
    /// comes to each node at most once.
    fn walk(&mut self, node: usize, path: &'p [u8]) -> Option<Entry> {
        let node = &self.nodes[node];
        // Segments are short: a plain loop beats a call of memchr.
        let (segment, tail) = match path.iter().position(|&byte| byte == b'/') {
            Some(end) => (&path[..end], Some(&path[end + 1..])),
            None => (path, None),
        };
        if let Some(child) = node.literal(segment) {
            if let Some(entry) = self.descend(child, tail) {
                return Some(entry);
            }
        }
        for affix in &node.affixes {
            if let Some(value) = between(segment, &affix.prefix, &affix.suffix) {
                if let Some(entry) = self.descend_with(value, affix.child, tail) {
                    return Some(entry);
                }
            }
        }
        if let Some(child) = node.parameter.filter(|_| !segment.is_empty()) {
            if let Some(entry) = self.descend_with(segment, child, tail) {
                return Some(entry);
            }
        }
        let entry = self.visit(&node.rest)?;
        self.parameters.0.push(path);
        Some(entry)
    }

    fn descend(&mut self, child: usize, tail: Option<&'p [u8]>) -> Option<Entry> {
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
    ) -> Option<Entry> {
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
